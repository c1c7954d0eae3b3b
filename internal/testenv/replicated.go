package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// NodeTimeout is after how long without an answer the nodes of a replicated
// cluster take one for failed.
const NodeTimeout = time.Second

// ReplicatedCluster is a Redis Cluster of three masters with a replica each,
// whose nodes can fail. It belongs to one test.
type ReplicatedCluster struct {
	RedisCluster
	t testing.TB
}

// NewReplicatedCluster starts a cluster and ends it with the test. It returns
// when all replicas are in sync, as one that is not is never promoted.
func NewReplicatedCluster(t testing.TB) *ReplicatedCluster {
	t.Helper()
	NeedRedis(t)
	c := &ReplicatedCluster{t: t}
	t.Cleanup(c.stop)
	for range 6 {
		bus, err := FreePort()
		if err != nil {
			t.Fatal(err)
		}
		c.Nodes = append(c.Nodes, NewRedis(t, RedisOptions{Args: []string{
			"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus), "--cluster-config-file", "nodes.conf",
			"--cluster-node-timeout", strconv.FormatInt(NodeTimeout.Milliseconds(), 10),
			"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1",
		}}))
	}
	c.cli("--cluster", "create", c.Addrs(), "--cluster-replicas", "1", "--cluster-yes")
	c.AwaitReplicas(3)
	return c
}

// cli runs redis-cli; an argument may be a list.
func (c *ReplicatedCluster) cli(args ...any) {
	c.t.Helper()
	var list []string
	for _, a := range args {
		switch a := a.(type) {
		case []string:
			list = append(list, a...)
		default:
			list = append(list, fmt.Sprint(a))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*startWithin)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "redis-cli", list...).CombinedOutput(); err != nil {
		c.t.Fatalf("redis-cli %s: %v\n%s", strings.Join(list, " "), err, out)
	}
}

// AwaitReplicas waits until the cluster is up in the eyes of each node that
// answers, with at least so many replicas that are in sync.
func (c *ReplicatedCluster) AwaitReplicas(n int) {
	c.t.Helper()
	err := eventually(func(ctx context.Context) error {
		synced := 0
		for _, s := range c.Nodes {
			info, err := s.info(ctx)
			if err != nil {
				continue
			}
			if !strings.Contains(info, "cluster_state:ok") {
				return fmt.Errorf("%s is not ready:\n%s", s.Addr, info)
			}
			if strings.Contains(info, "master_link_status:up") && strings.Contains(info, "master_sync_in_progress:0") {
				synced++
			}
		}
		if synced < n {
			return fmt.Errorf("%d replicas of %d are in sync", synced, n)
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// info returns what a node says of its replication and its cluster.
func (s *RedisServer) info(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	cl := s.client()
	defer cl.Close()
	repl, err := cl.Info(ctx, "replication").Result()
	if err != nil {
		return "", err
	}
	state, err := cl.ClusterInfo(ctx).Result()
	return repl + state, err
}

func (s *RedisServer) client() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true})
}

// Owners returns the masters that have the keys' slots, in the eyes of the
// first node that answers.
func (c *ReplicatedCluster) Owners(keys ...string) []*RedisServer {
	c.t.Helper()
	var errs error
	for _, s := range c.Nodes {
		owners, err := c.ownersBy(s, keys...)
		if err == nil {
			return owners
		}
		errs = errors.Join(errs, err)
	}
	c.t.Fatal(errs)
	return nil
}

func (c *ReplicatedCluster) ownersBy(s *RedisServer, keys ...string) ([]*RedisServer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	cl := s.client()
	defer cl.Close()
	slots := make([]*redis.IntCmd, len(keys))
	var ranges *redis.ClusterSlotsCmd
	if _, err := cl.Pipelined(ctx, func(p redis.Pipeliner) error {
		ranges = p.ClusterSlots(ctx)
		for i, key := range keys {
			slots[i] = p.ClusterKeySlot(ctx, key)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	owners := make([]*RedisServer, len(keys))
	for i := range keys {
		slot := int(slots[i].Val())
		at := slices.IndexFunc(ranges.Val(), func(r redis.ClusterSlot) bool { return slot >= r.Start && slot <= r.End })
		if at < 0 {
			return nil, fmt.Errorf("%s knows no master of slot %d", s.Addr, slot)
		}
		owner, err := c.node(ranges.Val()[at].Nodes[0].Addr)
		if err != nil {
			return nil, err
		}
		owners[i] = owner
	}
	return owners, nil
}

func (c *ReplicatedCluster) node(addr string) (*RedisServer, error) {
	i := slices.IndexFunc(c.Nodes, func(s *RedisServer) bool { return s.Addr == addr })
	if i < 0 {
		return nil, fmt.Errorf("%s is none of the cluster's nodes", addr)
	}
	return c.Nodes[i], nil
}

// Promoted waits until another node than old has the key's slot in the eyes
// of all nodes but old that answer, and returns it.
func (c *ReplicatedCluster) Promoted(key string, old *RedisServer) *RedisServer {
	c.t.Helper()
	var owner *RedisServer
	err := eventually(func(context.Context) error {
		owner = nil
		for _, s := range c.Nodes {
			if s == old {
				continue
			}
			now, err := c.ownersBy(s, key)
			if err != nil {
				continue
			}
			if now[0] == old || owner != nil && owner != now[0] {
				return fmt.Errorf("%s has not been replaced", old.Addr)
			}
			owner = now[0]
		}
		if owner == nil {
			return errors.New("no node answers")
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return owner
}

// Reshard moves n slots between two masters, keys and all, as an operator
// would.
func (c *ReplicatedCluster) Reshard(n int, from, to *RedisServer) {
	c.t.Helper()
	c.cli("--cluster", "reshard", from.Addr, "--cluster-from", c.id(from), "--cluster-to", c.id(to),
		"--cluster-slots", n, "--cluster-yes")
}

func (c *ReplicatedCluster) id(s *RedisServer) string {
	c.t.Helper()
	cl := s.client()
	defer cl.Close()
	id, err := cl.Do(context.Background(), "cluster", "myid").Text()
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

// Failover has a replica of the master take over, with the master's consent,
// and returns it.
func (c *ReplicatedCluster) Failover(master *RedisServer) *RedisServer {
	c.t.Helper()
	replica := c.ReplicaOf(master)
	cl := replica.client()
	defer cl.Close()
	if err := cl.ClusterFailover(context.Background()).Err(); err != nil {
		c.t.Fatal(err)
	}
	return replica
}

// ReplicaOf returns the master's replica.
func (c *ReplicatedCluster) ReplicaOf(master *RedisServer) *RedisServer {
	c.t.Helper()
	ctx := context.Background()
	cl := master.client()
	defer cl.Close()
	lines, err := cl.Do(ctx, "cluster", "replicas", c.id(master)).StringSlice()
	if err != nil || len(lines) == 0 {
		c.t.Fatalf("replicas of %s: %q, %v", master.Addr, lines, err)
	}
	// <id> <host:port@bus> …
	addr, _, _ := strings.Cut(strings.Fields(lines[0])[1], "@")
	replica, err := c.node(addr)
	if err != nil {
		c.t.Fatal(err)
	}
	return replica
}

// CutOff pauses a replica and ends its connection to the master: what is
// written from then on does not reach it. It is as far behind when it is
// resumed and the master has been killed.
func CutOff(t testing.TB, master, replica *RedisServer) (resume func()) {
	t.Helper()
	resume = replica.Pause(t)
	cl := master.client()
	defer cl.Close()
	if err := cl.ClientKillByFilter(context.Background(), "TYPE", "replica").Err(); err != nil {
		t.Fatal(err)
	}
	return resume
}

// Sentinels is a primary with one replica that three Sentinels watch. It
// belongs to one test.
type Sentinels struct {
	Primary, Replica *RedisServer
	Watchers         []*RedisServer
	t                testing.TB
}

// sentinelName is what the Sentinels call the primary.
const sentinelName = "primary"

// NewSentinels starts a group and ends it with the test. It returns when the
// replica is in sync and the Sentinels know each other.
func NewSentinels(t testing.TB) *Sentinels {
	t.Helper()
	NeedRedis(t)
	g := &Sentinels{t: t, Primary: NewRedis(t, RedisOptions{Args: []string{"--repl-diskless-sync-delay", "0"}})}
	host, port, err := net.SplitHostPort(g.Primary.Addr)
	if err != nil {
		t.Fatal(err)
	}
	g.Replica = NewRedis(t, RedisOptions{Args: []string{"--replicaof", host + " " + port}})
	for range 3 {
		w := NewRedis(t, RedisOptions{Sentinel: fmt.Sprintf("%s %s %s 2", sentinelName, host, port)})
		cl := w.client()
		for _, set := range [][2]string{{"down-after-milliseconds", "500"}, {"failover-timeout", "5000"}} {
			if err := cl.Do(t.Context(), "sentinel", "set", sentinelName, set[0], set[1]).Err(); err != nil {
				t.Fatal(err)
			}
		}
		cl.Close()
		g.Watchers = append(g.Watchers, w)
	}
	err = eventually(func(ctx context.Context) error {
		for _, w := range g.Watchers {
			cl := redis.NewSentinelClient(&redis.Options{Addr: w.Addr})
			about, err := cl.Master(ctx, sentinelName).Result()
			cl.Close()
			if err != nil {
				return err
			}
			if about["num-other-sentinels"] != "2" || about["num-slaves"] != "1" {
				return fmt.Errorf("%s does not know all: %v", w.Addr, about)
			}
		}
		cl := g.Replica.client()
		defer cl.Close()
		info, err := cl.Info(ctx, "replication").Result()
		if err == nil && !strings.Contains(info, "master_link_status:up") {
			err = errors.New("the replica is not in sync")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// URL returns the group's address as REDIS_URL takes it.
func (g *Sentinels) URL() string {
	addrs := make([]string, len(g.Watchers))
	for i, w := range g.Watchers {
		addrs[i] = w.Addr
	}
	return "redis+sentinel://" + strings.Join(addrs, ",") + "/" + sentinelName
}

// Promoted waits until the replica takes writes.
func (g *Sentinels) Promoted() {
	g.t.Helper()
	err := eventually(func(ctx context.Context) error {
		cl := g.Replica.client()
		defer cl.Close()
		info, err := cl.Info(ctx, "replication").Result()
		if err == nil && !strings.Contains(info, "role:master") {
			err = errors.New("the replica has not been promoted")
		}
		return err
	})
	if err != nil {
		g.t.Fatal(err)
	}
}
