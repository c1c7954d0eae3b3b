package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

const (
	// followWithin is what is promised: so long after a slot has moved, or
	// after a replica was promoted, its topics deliver again.
	followWithin = 5 * time.Second
	// patience is what a test grants a machine that does much else.
	patience = 3 * followWithin
)

// traffic is many workflows that are written all the time, and a subscription
// to them that does what a subscriber must: read when told to.
type traffic struct {
	t        *testing.T
	writer   *redisstore.Store
	follower *redisstore.Store
	sub      *redisstore.Subscription
	ids      []string
	stop     context.CancelFunc
	wg       sync.WaitGroup
	reads    chan string

	mu    sync.Mutex
	acked map[string]int64     // the newest number that Redis has acknowledged
	known map[string]int64     // the newest number that has arrived
	since map[string]time.Time // when the oldest was acknowledged that has not
	worst time.Duration        // longest time from an acknowledgement to the arrival
	told  map[string]time.Time // when the newest Resync came
}

// startTraffic opens the Redis twice, as a worker and a subscriber would, and
// returns when every workflow is followed.
func startTraffic(t *testing.T, url string, workflows int, pingEvery time.Duration) *traffic {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	tr := &traffic{
		t: t, stop: cancel, reads: make(chan string, 100_000),
		acked: map[string]int64{}, known: map[string]int64{}, since: map[string]time.Time{},
		told: map[string]time.Time{},
	}
	open := func() *redisstore.Store {
		s, err := redisstore.Open(ctx, url, redisstore.Options{PingEvery: pingEvery})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	tr.writer, tr.follower = open(), open()
	tr.sub = tr.follower.Subscribe(tr)
	t.Cleanup(func() {
		cancel()
		tr.wg.Wait()
		tr.sub.Close()
	})
	var adds sync.WaitGroup
	for i := range workflows {
		id := fmt.Sprint("w-", i)
		tr.ids = append(tr.ids, id)
		adds.Go(func() {
			if err := tr.sub.Add(ctx, workflow(id)); err != nil {
				t.Errorf("add %s: %v", id, err)
			}
		})
	}
	adds.Wait()
	const writers, readers = 6, 4
	for w := range writers {
		tr.wg.Go(func() { tr.write(ctx, w, writers) })
	}
	for range readers {
		tr.wg.Go(func() { tr.read(ctx) })
	}
	tr.settle("the traffic to flow", tr.ids)
	tr.takeWorst()
	return tr
}

// write appends to every n-th workflow in turn. One that Redis does not take
// is tried again in the next round, under the same number.
func (tr *traffic) write(ctx context.Context, first, n int) {
	numbers := map[string]int64{}
	for ctx.Err() == nil {
		for i := first; i < len(tr.ids) && ctx.Err() == nil; i += n {
			id := tr.ids[i]
			a := numbered(numbers[id]+1, event(id, "r", progress.TypeLog, func(e *progress.Event) {
				e.Message = strconv.FormatInt(numbers[id]+1, 10)
			}))
			call, cancel := context.WithTimeout(ctx, time.Second)
			_, err := tr.writer.Append(call, a)
			cancel()
			switch {
			case err == nil:
				numbers[id]++
				tr.ack(id, numbers[id])
			case !errors.Is(err, progress.ErrUnavailable):
				tr.t.Errorf("append to %s: %v", id, err)
				return
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (tr *traffic) ack(id string, number int64) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.acked[id] = number
	if _, waits := tr.since[id]; !waits && tr.known[id] < number {
		tr.since[id] = time.Now()
	}
}

func (tr *traffic) knows(id string, data []byte) {
	e, err := progress.DecodeEvent(data)
	if err != nil {
		tr.t.Error(err)
		return
	}
	number, err := strconv.ParseInt(e.Message, 10, 64)
	if err != nil {
		tr.t.Error(err)
		return
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if number <= tr.known[id] {
		return
	}
	tr.known[id] = number
	if at, ok := tr.since[id]; ok {
		tr.worst = max(tr.worst, time.Since(at))
		delete(tr.since, id)
		if tr.acked[id] > number {
			tr.since[id] = time.Now()
		}
	}
}

func (tr *traffic) Message(t progress.Topic, data []byte) { tr.knows(t.Name, data) }

func (tr *traffic) Resync(t progress.Topic) {
	tr.mu.Lock()
	tr.told[t.Name] = time.Now()
	tr.mu.Unlock()
	tr.reads <- t.Name
}

// followed returns how long after at the last of the workflows was subscribed
// anew; 0 if all were before.
func (tr *traffic) followed(at time.Time, ids []string) time.Duration {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	var last time.Duration
	for _, id := range ids {
		last = max(last, tr.told[id].Sub(at))
	}
	return last
}

func (tr *traffic) read(ctx context.Context) {
	for {
		select {
		case id := <-tr.reads:
			call, cancel := context.WithTimeout(ctx, time.Second)
			v, err := tr.follower.Read(call, id, 1, 0)
			cancel()
			if err != nil {
				select {
				case <-time.After(50 * time.Millisecond):
					tr.reads <- id
				case <-ctx.Done():
				}
			} else if n := len(v.Events); n > 0 {
				tr.knows(id, v.Events[n-1].Data)
			}
		case <-ctx.Done():
			return
		}
	}
}

// settle waits until something has arrived of each workflow that was
// acknowledged after the call, and returns how long that took.
func (tr *traffic) settle(what string, ids []string) time.Duration {
	tr.t.Helper()
	begin := time.Now()
	tr.mu.Lock()
	acked := maps.Clone(tr.acked)
	tr.mu.Unlock()
	missing := 0
	for time.Since(begin) < patience {
		missing = 0
		tr.mu.Lock()
		for _, id := range ids {
			if tr.known[id] <= acked[id] {
				missing++
			}
		}
		tr.mu.Unlock()
		if missing == 0 {
			return time.Since(begin)
		}
		time.Sleep(5 * time.Millisecond)
	}
	tr.t.Fatalf("after %v, %d of %d workflows do not deliver: %s; %+v", patience, missing, len(ids), what, tr.follower.Stats())
	return 0
}

// takeWorst returns the longest time from an acknowledgement to the arrival
// since it was last called.
func (tr *traffic) takeWorst() time.Duration {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	worst := tr.worst
	tr.worst = 0
	return worst
}

// workflowsOn returns the workflows whose slot the node has, and how many
// slots those are.
func workflowsOn(t *testing.T, c *testenv.ReplicatedCluster, node *testenv.RedisServer, ids []string) (on []string, slots int) {
	t.Helper()
	cc := admin(t, node)
	ranges, err := cc.ClusterSlots(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, id := range ids {
		slot := redisstore.Slot("workflow:{" + id + "}")
		for _, r := range ranges {
			if slot >= r.Start && slot <= r.End && r.Nodes[0].Addr == node.Addr {
				on = append(on, id)
				seen[slot] = true
			}
		}
	}
	return on, len(seen)
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
		for _, s := range c.Nodes {
			if on, _ := workflowsOn(t, c, s, tr.ids); len(on) > 0 {
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
			on, slots := workflowsOn(t, c, s, tr.ids)
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
		_, had := workflowsOn(t, c, to, tr.ids)
		begin := time.Now()
		c.Reshard(500, from, to)
		took := time.Since(begin)
		tr.settle("slots were moved", tr.ids)
		moved, has := workflowsOn(t, c, to, tr.ids)
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
		on, slots := workflowsOn(t, c, old, tr.ids)
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
		on, slots := workflowsOn(t, c, old, tr.ids)
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
		on, slots := workflowsOn(t, c, old, tr.ids)
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
