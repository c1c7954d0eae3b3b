package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// message is what a subscription told its sink; a resync has no data.
type message struct {
	topic progress.Topic
	data  string
}

// sink passes on what it gets. Its channel is wide enough for every test, so
// it does not block.
type sink chan message

func (s sink) Message(t progress.Topic, data []byte) { s <- message{t, string(data)} }
func (s sink) Resync(t progress.Topic)               { s <- message{topic: t} }

func (h *harness) subscribe(t testing.TB) (*redisstore.Subscription, sink) {
	got := make(sink, 100_000)
	sub := h.store.Subscribe(got)
	t.Cleanup(func() { sub.Close() })
	return sub, got
}

func workflow(id string) progress.Topic { return progress.Topic{Name: id} }

func (h *harness) add(t testing.TB, sub *redisstore.Subscription, topics ...progress.Topic) {
	t.Helper()
	for _, topic := range topics {
		if err := sub.Add(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
	}
}

// next returns the next message, or fails after a while.
func (s sink) next(t testing.TB) message {
	t.Helper()
	select {
	case m := <-s:
		return m
	case <-time.After(20 * time.Second):
		t.Fatal("no message")
		return message{}
	}
}

// What is published from the moment that Add returns arrives, in order and
// byte for byte as it stands in the stream.
func TestSubscribe(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		sub, got := h.subscribe(t)
		for round := range 20 {
			id := fmt.Sprint("id-", round)
			h.add(t, sub, workflow(id))
			for n := range int64(5) {
				h.append(t, numbered(n*2+1, logs(id, "r", 2)...))
			}
			v, err := h.store.Read(t.Context(), id, 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range v.Events {
				if m := got.next(t); m.topic != workflow(id) || m.data != string(e.Data) {
					t.Fatalf("got %+v, want %s", m, e.Data)
				}
			}
		}
		if s := h.store.Stats(); s.PublishFailed != 0 || s.Messages != 200 {
			t.Errorf("%+v", s)
		}
	})
}

func TestSubscribeRemove(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		sub, got := h.subscribe(t)
		h.add(t, sub, workflow("a"), workflow("b"), workflow("a"))
		// Removed and added again at once: the second Add holds too.
		for n := range int64(10) {
			sub.Remove(workflow("a"))
			h.add(t, sub, workflow("a"))
			h.append(t, numbered(n+1, logs("a", "r", 1)...))
			if m := got.next(t); m.topic.Name != "a" || m.data == "" {
				t.Fatalf("%+v", m)
			}
		}
		sub.Remove(workflow("a"))
		sub.Remove(workflow("never added"))
		channel := h.key("a", ":updates")
		eventually(t, "Redis to have no subscriber", func() bool { return h.subscribers(t, channel) == 0 })
		h.append(t, numbered(11, logs("a", "r", 1)...))
		h.append(t, numbered(1, logs("b", "r", 1)...))
		if m := got.next(t); m.topic.Name != "b" {
			t.Fatalf("%+v", m)
		}
		sub.Close()
		sub.Close()
		if err := sub.Add(t.Context(), workflow("c")); err == nil {
			t.Error("a closed subscription took a topic")
		}
	})
}

func (h *harness) subscribers(t testing.TB, channel string) int64 {
	t.Helper()
	if h.sharded {
		n, err := h.client.PubSubShardNumSub(t.Context(), channel).Result()
		if err != nil {
			t.Fatal(err)
		}
		var total atomic.Int64
		total.Store(n[channel])
		_ = h.client.(*redis.ClusterClient).ForEachMaster(t.Context(), func(ctx context.Context, c *redis.Client) error {
			n, err := c.PubSubShardNumSub(ctx, channel).Result()
			total.Add(n[channel])
			return err
		})
		return total.Load()
	}
	n, err := h.client.PubSubNumSub(t.Context(), channel).Result()
	if err != nil {
		t.Fatal(err)
	}
	return n[channel]
}

// killSubscribers ends the connections that subscribe, as a broken network
// would.
func (h *harness) killSubscribers(t testing.TB) {
	t.Helper()
	kill := func(ctx context.Context, c *redis.Client) error {
		return c.ClientKillByFilter(ctx, "TYPE", "pubsub").Err()
	}
	var err error
	if cc, ok := h.client.(*redis.ClusterClient); ok {
		err = cc.ForEachMaster(t.Context(), kill)
	} else {
		err = kill(t.Context(), h.client.(*redis.Client))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// With many topics, on a cluster on all nodes, each gets a resync after its
// connection was lost, and messages again after it.
func TestResyncAfterConnectionLoss(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		if !h.clients {
			// The embedded server cannot kill; losing the answers to pings
			// is another way to lose the connection.
			h.lossByStalling(t)
			return
		}
		sub, got := h.subscribe(t)
		const topics = 300
		for i := range topics {
			h.add(t, sub, workflow(fmt.Sprint("id-", i)))
		}
		for round := range 3 {
			h.killSubscribers(t)
			missing := map[string]bool{}
			for i := range topics {
				missing[fmt.Sprint("id-", i)] = true
			}
			for len(missing) > 0 {
				m := got.next(t)
				if m.data != "" {
					t.Fatalf("a message before the resync: %+v", m)
				}
				if !missing[m.topic.Name] {
					t.Fatalf("round %d: a second resync of %s", round, m.topic.Name)
				}
				delete(missing, m.topic.Name)
			}
			for i := range topics {
				h.append(t, numbered(int64(round+1), logs(fmt.Sprint("id-", i), "r", 1)...))
				if m := got.next(t); m.topic.Name != fmt.Sprint("id-", i) || m.data == "" {
					t.Fatalf("%+v", m)
				}
			}
		}
		if s := h.store.Stats(); s.Reconnects < 3 || s.Resyncs != 3*topics {
			t.Errorf("%+v", s)
		}
	})
}

// lossByStalling subscribes through a connection that falls silent.
func (h *harness) lossByStalling(t *testing.T) {
	addr := h.client.(*redis.Client).Options().Addr
	var stalled stall
	c := redis.NewClient(&redis.Options{Addr: addr, Dialer: stalled.dial})
	defer c.Close()
	o := h.opts
	o.PingEvery = 50 * time.Millisecond
	s := redisstore.New(c, o)
	defer s.Close()
	got := make(sink, 1000)
	sub := s.Subscribe(got)
	defer sub.Close()
	h.add(t, sub, workflow("id"))
	stalled.now()
	if m := got.next(t); m.topic.Name != "id" || m.data != "" {
		t.Fatalf("%+v", m)
	}
	h.append(t, numbered(1, logs("id", "r", 1)...))
	if m := got.next(t); m.data == "" {
		t.Fatalf("%+v", m)
	}
	if st := s.Stats(); st.PongsMissed == 0 || st.Reconnects == 0 {
		t.Errorf("%+v", st)
	}
}

// stall makes connections that give nothing any more once told so.
type stall struct{}

type stalledConn struct {
	net.Conn
	gate chan struct{}
}

func (s *stall) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &stalledConn{Conn: c, gate: stallGate}, nil
}

// stallGate is closed by now; reads of connections made before then hang
// until their deadline.
var stallGate = make(chan struct{})

func (s *stall) now() {
	old := stallGate
	stallGate = make(chan struct{})
	close(old)
}

func (c *stalledConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		select {
		case <-c.gate:
			if err != nil {
				return 0, err
			}
			continue // swallow it
		default:
			return n, err
		}
	}
}

// Add waits for a Redis that is away, and gives up with its context.
func TestAddWhileRedisIsAway(t *testing.T) {
	port, err := testenv.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprint("127.0.0.1:", port)
	c := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
	defer c.Close()
	s := redisstore.New(c, redisstore.Options{PingEvery: 100 * time.Millisecond})
	defer s.Close()
	got := make(sink, 100)
	sub := s.Subscribe(got)
	defer sub.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := sub.Add(ctx, workflow("id")); !errors.Is(err, progress.ErrUnavailable) {
		t.Fatal(err)
	}
	added := make(chan error, 1)
	go func() { added <- sub.Add(t.Context(), workflow("id")) }()
	srv := testenv.NewRedis(t, testenv.RedisOptions{Port: port})
	if err := <-added; err != nil {
		t.Fatal(err)
	}
	h := &harness{client: c, store: s}
	h.append(t, numbered(1, logs("id", "r", 1)...))
	if m := got.next(t); m.data == "" {
		t.Fatalf("%+v", m)
	}
	// It goes away and comes back empty: one resync, then messages.
	srv.Stop()
	if _, err := s.Append(t.Context(), numbered(2, logs("id", "r", 1)...)); !errors.Is(err, progress.ErrUnavailable) {
		t.Fatal(err)
	}
	testenv.NewRedis(t, testenv.RedisOptions{Port: port})
	if m := got.next(t); m.data != "" {
		t.Fatalf("%+v", m)
	}
	h.append(t, numbered(2, logs("id", "r", 1)...))
	if m := got.next(t); !strings.Contains(m.data, `"lost":1,`) {
		t.Fatalf("%+v", m)
	}
}

// A server that hangs holds nobody up who closes the subscription: neither one
// whose connection it had, nor one that it does not answer.
func TestCloseWhileRedisHangs(t *testing.T) {
	srv := testenv.NewRedis(t, testenv.RedisOptions{})
	c := redis.NewClient(&redis.Options{Addr: srv.Addr})
	defer c.Close()
	s := redisstore.New(c, redisstore.Options{})
	defer s.Close()
	had, hasNot := s.Subscribe(make(sink, 100)), s.Subscribe(make(sink, 100))
	defer had.Close()
	defer hasNot.Close()
	if err := had.Add(t.Context(), workflow("id")); err != nil {
		t.Fatal(err)
	}
	srv.Pause(t)
	added := make(chan error, 1)
	go func() { added <- hasNot.Add(t.Context(), workflow("id")) }()
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := had.Add(short, workflow("other")); !errors.Is(err, progress.ErrUnavailable) {
		t.Fatal(err)
	}
	begin := time.Now()
	had.Close()
	hasNot.Close()
	if took := time.Since(begin); took > 800*time.Millisecond {
		t.Errorf("closing took %v", took)
	}
	if err := <-added; err == nil {
		t.Error("a server that hangs took a topic")
	}
}

// A channel that the user may not follow costs the others nothing, also when
// all are subscribed anew in one command.
func TestRefusedChannelIsAlone(t *testing.T) {
	srv := testenv.NewRedis(t, testenv.RedisOptions{})
	admin := redis.NewClient(&redis.Options{Addr: srv.Addr})
	defer admin.Close()
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "viewer", "on", ">pw", "~*", "resetchannels", "&workflow:*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(&redis.Options{Addr: srv.Addr, Username: "viewer", Password: "pw"})
	defer c.Close()
	s := redisstore.New(c, redisstore.Options{})
	defer s.Close()
	got := make(sink, 1000)
	sub := s.Subscribe(got)
	defer sub.Close()
	h := &harness{client: c, store: s}
	// While Redis hangs all gather, and are then subscribed together.
	goOn := srv.Pause(t)
	const topics = 50
	added := make(chan error, topics)
	for i := range topics {
		go func() { added <- sub.Add(t.Context(), workflow(fmt.Sprint("id-", i))) }()
	}
	ctx, cancel := context.WithCancel(t.Context())
	refused := make(chan error, 1)
	go func() { refused <- sub.Add(ctx, progress.Topic{Kind: progress.TopicTag, Name: "blue"}) }()
	eventually(t, "the first connection to fail", func() bool { return s.Stats().Reconnects > 0 })
	goOn()
	for range topics {
		select {
		case err := <-added:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("topics are not subscribed")
		}
	}
	h.append(t, numbered(1, logs("id-7", "r", 1)...))
	if m := got.next(t); m.topic.Name != "id-7" || m.data == "" {
		t.Errorf("%+v", m)
	}
	eventually(t, "the tag to be refused", func() bool { return s.Stats().SubscribeRefused > 0 })
	cancel()
	if err := <-refused; !errors.Is(err, progress.ErrUnavailable) {
		t.Errorf("the tag: %v", err)
	}
}
