package redisstore_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/redisstore"
)

// workflowsOn returns the workflows whose slot the node has, and how many
// slots those are.
func workflowsOn(c *testenv.ReplicatedCluster, node *testenv.RedisServer, ids []string) (on []string, slots int) {
	seen := map[int]bool{}
	for i, owner := range c.Owners(hashKeys(ids)...) {
		if owner == node {
			on = append(on, ids[i])
			seen[redisstore.Slot(hashKeys(ids[i : i+1])[0])] = true
		}
	}
	return on, len(seen)
}

func hashKeys(ids []string) []string {
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = "workflow:{" + id + "}"
	}
	return keys
}

func admin(t *testing.T, node *testenv.RedisServer) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: node.Addr})
	t.Cleanup(func() { c.Close() })
	return c
}

// subscribeCalls returns how many SSUBSCRIBE commands a node has taken; those
// that it refused do not count.
func subscribeCalls(t *testing.T, node *testenv.RedisServer) int {
	t.Helper()
	return calls(t, admin(t, node), "ssubscribe")
}

func calls(t *testing.T, node *redis.Client, command string) int {
	t.Helper()
	info, err := node.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(info, "cmdstat_"+command+":calls=")
	if !ok {
		return 0
	}
	number, _, _ := strings.Cut(rest, ",")
	n, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// oneConnection checks that exactly the masters have one subscribing
// connection each.
func oneConnection(t *testing.T, c *testenv.ReplicatedCluster, gone ...*testenv.RedisServer) {
	t.Helper()
	var got string
	eventuallyWithin(t, patience, func() (bool, string) {
		got = ""
		for _, s := range c.Nodes {
			if len(gone) > 0 && s == gone[0] {
				continue
			}
			a := admin(t, s)
			list, err := a.Do(t.Context(), "client", "list", "type", "pubsub").Text()
			if err != nil {
				return false, err.Error()
			}
			nodes, err := a.ClusterNodes(t.Context()).Result()
			if err != nil {
				return false, err.Error()
			}
			want := 0
			if strings.Contains(nodes, "myself,master") {
				want = 1
			}
			if n := strings.Count(list, "id="); n != want {
				got += fmt.Sprintf("%s has %d subscribing connections, want %d\n", s.Addr, n, want)
			}
		}
		return got == "", got
	})
}

func eventuallyWithin(t *testing.T, within time.Duration, ok func() (bool, string)) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		done, why := ok()
		if done {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %s", within, why)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// What a cluster does to a subscription under load, one thing after the
// other: each workflow delivers again, and the connections and commands that
// it takes are counted.
func TestClusterFailover(t *testing.T) {
	c := testenv.NewReplicatedCluster(t)
	// No pings: what follows a master that hangs is that the others tell.
	tr := startTraffic(t, c.URL(), 320, time.Hour)
	resetStats := func(t *testing.T) {
		for _, s := range c.Nodes {
			if err := admin(t, s).ConfigResetStat(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		}
		tr.takeWorst()
	}
	masters := func() (list []*testenv.RedisServer) {
		owners := c.Owners(hashKeys(tr.ids)...)
		for _, s := range c.Nodes {
			if slices.Contains(owners, s) {
				list = append(list, s)
			}
		}
		return list
	}

	// While nothing happens, a master is asked once a second.
	t.Run("quiet", func(t *testing.T) {
		resetStats(t)
		begin := time.Now()
		a := admin(t, masters()[0])
		eventually(t, "three questions", func() bool { return calls(t, a, "cluster|nodes") >= 3 })
		if took := time.Since(begin); took < 1500*time.Millisecond {
			t.Errorf("a master was asked three times in %v", took)
		}
		if slots, nodes := calls(t, a, "cluster|slots"), calls(t, a, "cluster|nodes"); slots > nodes+2 {
			t.Errorf("%d CLUSTER SLOTS, %d CLUSTER NODES", slots, nodes)
		}
	})

	t.Run("connections lost", func(t *testing.T) {
		oneConnection(t, c)
		resetStats(t)
		for _, s := range masters() {
			if err := admin(t, s).ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err(); err != nil {
				t.Fatal(err)
			}
		}
		took := tr.settle("connections were killed", tr.ids)
		oneConnection(t, c)
		for _, s := range masters() {
			on, slots := workflowsOn(c, s, tr.ids)
			if n := subscribeCalls(t, s); n != slots {
				t.Errorf("%s: %d SSUBSCRIBE for %d workflows in %d slots", s.Addr, n, len(on), slots)
			}
		}
		t.Logf("all deliver again after %v; from acknowledgement to arrival at most %v", took, tr.takeWorst())
	})

	t.Run("reshard", func(t *testing.T) {
		before := tr.follower.Stats()
		from, to := masters()[0], masters()[1]
		resetStats(t)
		_, had := workflowsOn(c, to, tr.ids)
		begin := time.Now()
		c.Reshard(500, from, to)
		took := time.Since(begin)
		tr.settle("slots were moved", tr.ids)
		moved, has := workflowsOn(c, to, tr.ids)
		// The node's slots of before may have been confirmed anew by nothing;
		// each slot that came takes one command.
		if n := subscribeCalls(t, to); has <= had || n != has-had {
			t.Errorf("%d SSUBSCRIBE for %d slots that came (%d workflows there now)", n, has-had, len(moved))
		}
		oneConnection(t, c)
		after := tr.follower.Stats()
		if after.Reconnects != before.Reconnects {
			t.Errorf("%d connections were lost, though only slots moved", after.Reconnects-before.Reconnects)
		}
		t.Logf("%d slots with workflows moved in %v; from acknowledgement to arrival at most %v", has-had, took, tr.takeWorst())
	})

	t.Run("manual failover", func(t *testing.T) {
		old := masters()[2]
		on, slots := workflowsOn(c, old, tr.ids)
		resetStats(t)
		replica := c.Failover(old)
		if now := c.Promoted("workflow:{"+on[0]+"}", old); now != replica {
			t.Fatalf("%s took over, not %s", now.Addr, replica.Addr)
		}
		took := tr.settle("a replica took over", on)
		tr.settle("a replica took over", tr.ids)
		oneConnection(t, c)
		if n := subscribeCalls(t, replica); n != slots {
			t.Errorf("%d SSUBSCRIBE for %d slots", n, slots)
		}
		t.Logf("%d workflows deliver again %v after the promotion; from acknowledgement to arrival at most %v", len(on), took, tr.takeWorst())
		c.AwaitReplicas(3)
	})

	t.Run("master hangs", func(t *testing.T) {
		old := masters()[0]
		on, slots := workflowsOn(c, old, tr.ids)
		resetStats(t)
		begin := time.Now()
		resume := old.Pause(t)
		owner := c.Promoted("workflow:{"+on[0]+"}", old)
		promoted := time.Now()
		took := tr.settle("a master hangs", on)
		if n := subscribeCalls(t, owner); n != slots {
			t.Errorf("%d SSUBSCRIBE for %d slots", n, slots)
		}
		oneConnection(t, c, old)
		t.Logf("%d workflows: promotion %v after the master hung, all subscribed %v and delivering %v later; from acknowledgement to arrival at most %v",
			len(on), promoted.Sub(begin), tr.followed(promoted, on), took, tr.takeWorst())
		resume()
		c.AwaitReplicas(3)
		tr.settle("it is back", tr.ids)
		oneConnection(t, c)
	})

	t.Run("master killed", func(t *testing.T) {
		old := masters()[1]
		on, slots := workflowsOn(c, old, tr.ids)
		resetStats(t)
		begin := time.Now()
		old.Stop()
		owner := c.Promoted("workflow:{"+on[0]+"}", old)
		promoted := time.Now()
		took := tr.settle("a master was killed", on)
		tr.settle("a master was killed", tr.ids)
		if n := subscribeCalls(t, owner); n != slots {
			t.Errorf("%d SSUBSCRIBE for %d slots", n, slots)
		}
		oneConnection(t, c, old)
		t.Logf("%d workflows: promotion %v after the kill, all subscribed %v and delivering %v later; from acknowledgement to arrival at most %v",
			len(on), promoted.Sub(begin), tr.followed(promoted, on), took, tr.takeWorst())
	})
	if s := tr.follower.Stats(); s.PongsMissed > 0 || s.SubscribeRefused > 0 {
		t.Errorf("%+v", s)
	}
}

// A primary that Sentinel replaces is followed, under load.
func TestSentinelFailover(t *testing.T) {
	g := testenv.NewSentinels(t)
	tr := startTraffic(t, g.URL(), 300, 0)
	begin := time.Now()
	g.Primary.Stop()
	g.Promoted()
	promoted := time.Now()
	took := tr.settle("the primary was killed", tr.ids)
	t.Logf("promotion %v after the kill, all subscribed %v and delivering %v later; from acknowledgement to arrival at most %v",
		promoted.Sub(begin), tr.followed(promoted, tr.ids), took, tr.takeWorst())
	list, err := admin(t, g.Replica).Do(t.Context(), "client", "list", "type", "pubsub").Text()
	if err != nil {
		t.Fatal(err)
	}
	// The Sentinels have one each, by which they know each other.
	if n := strings.Count(list, "id=") - strings.Count(list, "name=sentinel-"); n != 1 {
		t.Errorf("%d subscribing connections:\n%s", n, list)
	}
}
