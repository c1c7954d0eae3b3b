package testenv

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// RedisCluster is a running Redis Cluster of three masters without replicas.
type RedisCluster struct {
	Nodes []*RedisServer
}

// Addrs returns the nodes' addresses.
func (c *RedisCluster) Addrs() []string {
	addrs := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		addrs[i] = n.Addr
	}
	return addrs
}

// URL returns the cluster's addresses as REDIS_URL takes them.
func (c *RedisCluster) URL() string {
	addrs := c.Addrs()
	return "redis://" + addrs[0] + "?addr=" + strings.Join(addrs[1:], "&addr=")
}

func (c *RedisCluster) stop() {
	for _, n := range c.Nodes {
		n.Stop()
	}
}

// Cluster returns a cluster that all tests of the binary share. Set keys
// apart with [Prefix].
func Cluster(t testing.TB) *RedisCluster {
	t.Helper()
	NeedRedis(t)
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil {
		c, err := startCluster()
		if err != nil {
			t.Fatal(err)
		}
		shared.cluster = c
	}
	return shared.cluster
}

// NewCluster starts a cluster of the test's own and ends it with the test.
func NewCluster(t testing.TB) *RedisCluster {
	t.Helper()
	NeedRedis(t)
	c, err := startCluster()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	return c
}

func startCluster() (*RedisCluster, error) {
	const masters, slots = 3, 16384
	c := &RedisCluster{}
	buses := make([]int, masters)
	for i := range masters {
		bus, err := FreePort()
		if err == nil {
			var n *RedisServer
			n, err = startRedis(RedisOptions{Args: []string{
				"--cluster-enabled", "yes", "--cluster-port", fmt.Sprint(bus),
				"--cluster-node-timeout", "5000", "--cluster-config-file", "nodes.conf",
			}})
			if err == nil {
				c.Nodes = append(c.Nodes, n)
			}
		}
		if err != nil {
			c.stop()
			return nil, err
		}
		buses[i] = bus
	}
	clients := make([]*redis.Client, masters)
	for i, n := range c.Nodes {
		clients[i] = redis.NewClient(&redis.Options{Addr: n.Addr})
		defer clients[i].Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	join := func() error {
		for i, cl := range clients {
			if err := cl.Do(ctx, "cluster", "set-config-epoch", i+1).Err(); err != nil {
				return err
			}
			if err := cl.ClusterAddSlotsRange(ctx, i*slots/masters, (i+1)*slots/masters-1).Err(); err != nil {
				return err
			}
			if i == 0 {
				continue
			}
			host, port, err := net.SplitHostPort(c.Nodes[i].Addr)
			if err != nil {
				return err
			}
			if err := clients[0].Do(ctx, "cluster", "meet", host, port, buses[i]).Err(); err != nil {
				return err
			}
		}
		return eventually(func(ctx context.Context) error {
			for _, cl := range clients {
				info, err := cl.ClusterInfo(ctx).Result()
				if err != nil {
					return err
				}
				nodes, err := cl.ClusterNodes(ctx).Result()
				if err != nil {
					return err
				}
				if !strings.Contains(info, "cluster_state:ok") || strings.Count(nodes, " connected") != masters || strings.Contains(nodes, "handshake") {
					return fmt.Errorf("the cluster does not come up:\n%s\n%s", info, nodes)
				}
			}
			return nil
		})
	}
	if err := join(); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}
