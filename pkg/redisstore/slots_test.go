package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// slotCluster is a cluster of three masters whose slots a test moves by hand,
// and a subscription to it.
type slotCluster struct {
	*harness
	t     *testing.T
	nodes []*redis.Client
	ids   []string // of the nodes
	addrs []string
	sub   *redisstore.Subscription
	got   sink
}

func newSlotCluster(t *testing.T) *slotCluster {
	cl := testenv.NewCluster(t)
	cc := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cl.Addrs()})
	t.Cleanup(func() { cc.Close() })
	s := redisstore.New(cc, redisstore.Options{})
	t.Cleanup(func() { s.Close() })
	c := &slotCluster{harness: &harness{client: cc, store: s}, t: t, addrs: cl.Addrs()}
	c.sub, c.got = c.subscribe(t)
	for _, addr := range c.addrs {
		node := redis.NewClient(&redis.Options{Addr: addr})
		t.Cleanup(func() { node.Close() })
		c.nodes = append(c.nodes, node)
		c.ids = append(c.ids, node.Do(t.Context(), "cluster", "myid").Val().(string))
	}
	return c
}

func (c *slotCluster) do(node int, args ...any) {
	c.t.Helper()
	if err := c.nodes[node].Do(c.t.Context(), args...).Err(); err != nil {
		c.t.Fatal(args, err)
	}
}

// begin has two nodes agree on a handover; move takes it to its end.
func (c *slotCluster) begin(slot, from, to int) {
	c.t.Helper()
	c.do(to, "cluster", "setslot", slot, "importing", c.ids[from])
	c.do(from, "cluster", "setslot", slot, "migrating", c.ids[to])
}

func (c *slotCluster) move(slot, from, to int) {
	c.t.Helper()
	c.begin(slot, from, to)
	for _, key := range c.keys(slot, from) {
		c.migrate(key, from, to)
	}
	for _, node := range []int{to, from, 3 - from - to} {
		c.do(node, "cluster", "setslot", slot, "node", c.ids[to])
	}
}

func (c *slotCluster) keys(slot, node int) []string {
	c.t.Helper()
	keys, err := c.nodes[node].ClusterGetKeysInSlot(c.t.Context(), slot, 100).Result()
	if err != nil {
		c.t.Fatal(err)
	}
	return keys
}

func (c *slotCluster) migrate(key string, from, to int) {
	c.t.Helper()
	host, port, _ := net.SplitHostPort(c.addrs[to])
	c.do(from, "migrate", host, port, key, 0, 5000)
}

// A slot moves to another node: Redis ends the subscription with a pushed
// sunsubscribe, and the topic follows.
func TestSlotMoves(t *testing.T) {
	c := newSlotCluster(t)
	c.add(t, c.sub, workflow("moving"), workflow("staying"), workflow("x"), workflow("y"))
	slot := redisstore.Slot("workflow:{moving}")
	from := slot * 3 / 16384
	c.move(slot, from, (from+1)%3)
	for { // it may have been told to read while the slot was under way, too
		if m := c.got.next(t); m != (message{topic: workflow("moving")}) {
			t.Fatalf("%+v", m)
		}
		if n := c.subscribersOn(t, (from+1)%3, "workflow:{moving}:updates"); n == 1 && len(c.got) == 0 {
			break
		}
	}
	for i, id := range []string{"moving", "staying", "x", "y"} {
		c.append(t, numbered(1, logs(id, "r", 1)...))
		if m := c.nextMessage(t); m.topic.Name != id {
			t.Fatalf("%d: %+v", i, m)
		}
	}
	if st := c.store.Stats(); st.Rerouted == 0 || st.Reconnects != 0 {
		t.Errorf("%+v", st)
	}
}

// nextMessage passes over what tells to read.
func (c *slotCluster) nextMessage(t *testing.T) message {
	t.Helper()
	for {
		if m := c.got.next(t); m.data != "" {
			return m
		}
	}
}

func (c *slotCluster) subscribersOn(t *testing.T, node int, channel string) int64 {
	t.Helper()
	n, err := c.nodes[node].PubSubShardNumSub(t.Context(), channel).Result()
	if err != nil {
		t.Fatal(err)
	}
	return n[channel]
}

// While a slot is handed over, a workflow whose keys have gone ahead is
// written and published at the new node, which takes no subscription yet. So
// the topic is told to read, again and again, until the slot has arrived.
func TestSlotIsHandedOver(t *testing.T) {
	c := newSlotCluster(t)
	c.add(t, c.sub, workflow("moving"), workflow("staying"))
	c.append(t, numbered(1, logs("moving", "r", 1)...))
	c.nextMessage(t)
	slot := redisstore.Slot("workflow:{moving}")
	from := slot * 3 / 16384
	to := (from + 1) % 3
	c.begin(slot, from, to)
	for _, key := range c.keys(slot, from) {
		c.migrate(key, from, to)
	}
	c.append(t, numbered(2, logs("moving", "r", 1)...))
	written := time.Now()
	for seq := int64(0); seq < 2; {
		if m := c.got.next(t); m != (message{topic: workflow("moving")}) {
			t.Fatalf("%+v", m)
		}
		v, err := c.store.Read(t.Context(), "moving", 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		seq = v.Snapshot.Seq
	}
	took := time.Since(written)
	for range 2 { // and it goes on
		if m := c.got.next(t); m != (message{topic: workflow("moving")}) {
			t.Fatalf("%+v", m)
		}
	}
	t.Logf("an event that was published past the subscription is read %v later", took)
	if st := c.store.Stats(); st.Messages != 1 || st.Rerouted != 0 {
		t.Errorf("%+v", st)
	}
}

// Topics come and go while their slot moves to and fro. What one node has
// refused must not be taken for the answer to something later: whoever is
// added in the end gets messages, at whichever node the slot is.
func TestTopicsChangeWhileTheirSlotMoves(t *testing.T) {
	c := newSlotCluster(t)
	id, other := "moving", sameSlot(t, "moving")
	slot := redisstore.Slot("workflow:{moving}")
	from := slot * 3 / 16384
	to := (from + 1) % 3
	c.add(t, c.sub, workflow(id))
	number := int64(0)
	for round := range 4 {
		c.move(slot, from, to)
		// The node that had the slot refuses both commands.
		short, cancel := context.WithCancel(t.Context())
		added := make(chan error, 1)
		go func() { added <- c.sub.Add(short, workflow(other)) }()
		if round%2 == 0 {
			c.sub.Remove(workflow(other))
		}
		cancel()
		if err := <-added; err != nil && !errors.Is(err, progress.ErrUnavailable) && !strings.Contains(err.Error(), "removed") {
			t.Fatal(err)
		}
		c.sub.Remove(workflow(other))
		from, to = to, from
	}
	c.add(t, c.sub, workflow(other))
	c.move(slot, from, to)
	for _, name := range []string{id, other} {
		eventually(t, name+" to be subscribed where the slot is", func() bool {
			return c.subscribersOn(t, to, "workflow:{"+name+"}:updates") == 1
		})
		number++
		c.append(t, numbered(1, logs(name, "r", 1)...))
		if m := c.nextMessage(t); m.topic.Name != name {
			t.Fatalf("%+v", m)
		}
	}
	if st := c.store.Stats(); st.Reconnects != 0 {
		t.Errorf("%+v", st)
	}
}

// sameSlot returns another ID in the slot of an ID.
func sameSlot(t *testing.T, id string) string {
	t.Helper()
	slot := redisstore.Slot("workflow:{" + id + "}")
	for i := range 1_000_000 {
		if other := fmt.Sprint("other-", i); redisstore.Slot("workflow:{"+other+"}") == slot {
			return other
		}
	}
	t.Fatal("no other ID in that slot")
	return ""
}

// A node that takes no subscription while the cluster is down refuses the new
// topic, and keeps the connection with those that it has.
func TestClusterDownRefusesATopic(t *testing.T) {
	c := newSlotCluster(t)
	c.add(t, c.sub, workflow("there"))
	slot := redisstore.Slot("workflow:{there}")
	node := slot * 3 / 16384
	c.do(node, "config", "set", "cluster-allow-pubsubshard-when-down", "no")
	free := node * 16384 / 3
	free += 2 // not the slot of any workflow here
	c.do(node, "cluster", "delslots", free)
	added := make(chan error, 1)
	other := sameSlot(t, "there")
	go func() { added <- c.sub.Add(t.Context(), workflow(other)) }()
	eventually(t, "the node to refuse the topic", func() bool { return c.store.Stats().SubscribeRefused > 1 })
	c.do(node, "cluster", "addslots", free)
	if err := <-added; err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"there", other} {
		eventually(t, "an append", func() bool {
			_, err := c.store.Append(t.Context(), numbered(1, logs(id, "r", 1)...))
			return err == nil
		})
		if m := c.got.next(t); m.topic.Name != id || m.data == "" {
			t.Fatalf("%+v", m)
		}
	}
	if st := c.store.Stats(); st.Reconnects != 0 || st.Resyncs != 0 {
		t.Errorf("%+v", st)
	}
}
