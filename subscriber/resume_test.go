package subscriber_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/subscriber"
)

func gapOf(t testing.TB, f frame) (from, to, reason string) {
	t.Helper()
	var g struct{ From, To, Reason string }
	mustUnmarshal(t, f.Data, &g)
	return g.From, g.To, g.Reason
}

func TestResume(t *testing.T) {
	each(t, func(t *testing.T, open func(*node, string, string) client) {
		n := start(t)
		r := newRun(t, n.store, "w", "run")
		var all []progress.Position
		for range 5 {
			all = append(all, r.log("x"))
		}
		future := progress.Position{Epoch: all[0].Epoch, Seq: 99, Check: "abcdefab"}
		foreign := progress.Position{Epoch: 1, Seq: 2, Check: "abcdefab"}
		forked := progress.Position{Epoch: all[0].Epoch, Seq: 2, Check: "abcdefab"}
		for _, tt := range []struct{ name, after, reason string }{
			{"in the middle", all[2].String(), ""},
			{"from the beginning", "0-0", ""},
			{"future", future.String(), "future"},
			{"foreign", foreign.String(), "foreign"},
			{"forked", forked.String(), "forked"},
			{"garbage", "nonsense", "bad_position"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				c := open(n, "w", "?after="+tt.after)
				if tt.reason == "" {
					first := int64(1)
					if tt.after != "0-0" {
						first = 4
					}
					for seq := first; seq <= 5; seq++ {
						if f := expect(t, c, "update"); f.ID != all[seq-1].String() {
							t.Fatalf("update %s, want %s", f.ID, all[seq-1])
						}
					}
					return
				}
				from, to, reason := gapOf(t, expect(t, c, "gap"))
				if from != tt.after || to != all[4].String() || reason != tt.reason {
					t.Errorf("gap from %s to %s: %s", from, to, reason)
				}
				if f := expect(t, c, "snapshot"); f.ID != all[4].String() {
					t.Errorf("snapshot %s, want %s", f.ID, all[4])
				}
			})
		}
	})
}

// A position that Redis no longer holds is answered with a gap and a
// snapshot, on all transports; one that it still holds goes on.
func TestResumeFromATrimmedPosition(t *testing.T) {
	for _, tt := range []struct {
		name string
		open func(n *node, after string) client
	}{
		{"sse", func(n *node, after string) client { return n.sse(t, "/v1/workflows/w/stream?after="+after) }},
		{"ws", func(n *node, after string) client { return n.ws(t, "/v1/workflows/w/ws?after="+after) }},
		{"many, sse", func(n *node, after string) client { return n.sse(t, "/v1/stream?workflow=w", "Last-Event-ID", after) }},
		{"many, ws", func(n *node, after string) client {
			c := n.ws(t, "/v1/ws")
			if err := c.conn.Write(c.ctx, websocket.MessageText, []byte(`{"type":"subscribe","workflow":"w","after":"`+after+`"}`)); err != nil {
				t.Fatal(err)
			}
			return c
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := start(t)
			r := newRun(t, n.store, "w", "run")
			var all []progress.Position
			for range 6 {
				all = append(all, r.log("x"))
			}
			key := n.prefix + ":workflow:{w}:events"
			if gone, err := adminClient(t, n.redis).XTrimMaxLen(t.Context(), key, 2).Result(); err != nil || gone != 4 {
				t.Fatalf("%d of %s were trimmed: %v", gone, key, err)
			}
			top := all[5].String()
			for _, after := range []string{all[0].String(), all[2].String(), "0-0"} {
				c := tt.open(n, after)
				from, to, reason := gapOf(t, expect(t, c, "gap"))
				if from != after || to != top || reason != "trimmed" {
					t.Errorf("after %s: gap from %s to %s: %s", after, from, to, reason)
				}
				f := expect(t, c, "snapshot")
				if s := f.snapshot(t); s.Position() != all[5] || s.FirstSeq != 5 {
					t.Errorf("after %s: snapshot at %s, first seq %d", after, s.Position(), s.FirstSeq)
				}
				c.close()
			}
			// The last one held is enough to go on from.
			c := tt.open(n, all[4].String())
			if f := expect(t, c, "update"); f.event(t).Seq != 6 {
				t.Errorf("went on at %s", f.Data)
			}
			next := r.log("on")
			if e := expect(t, c, "update").event(t); e.Position() != next {
				t.Errorf("then came %s, want %s", e.Position(), next)
			}
			c.close()
		})
	}
}

// Last-Event-ID is what the client saw last; after is what its page was made
// with.
func TestLastEventIDWins(t *testing.T) {
	n := start(t)
	r := newRun(t, n.store, "w", "run")
	first, second := r.log("1"), r.log("2")
	third := r.log("3")
	c := n.sse(t, "/v1/workflows/w/stream?after="+first.String(), "Last-Event-ID", second.String())
	if f := expect(t, c, "update"); f.ID != third.String() {
		t.Errorf("went on at %s, want %s", f.ID, third)
	}
}

// A gap has no id of its own: who loses the connection before the snapshot
// behind it must get both again.
func TestGapDoesNotMoveTheClient(t *testing.T) {
	n := start(t)
	newRun(t, n.store, "w", "run").log("1")
	res, _ := get(t, n.url+"/v1/workflows/w/stream?after=nonsense")
	text := make([]byte, 300)
	if _, err := io.ReadFull(res.Body, text); err != nil {
		t.Fatal(err)
	}
	gap, _, _ := strings.Cut(string(text)[strings.Index(string(text), "event: gap"):], "\n\n")
	if strings.Contains(gap, "\nid:") {
		t.Errorf("gap frame %q", gap)
	}
}

func TestResumeAcrossRestartAndOnAnotherNode(t *testing.T) {
	each(t, func(t *testing.T, open func(*node, string, string) client) {
		redis, o := testenv.Redis(t), redisstore.Options{Prefix: testenv.Prefix(t)}
		first := startOn(t, redis, o)
		r := newRun(t, first.store, "w", "run")
		c := open(first, "w", "")
		expect(t, c, "snapshot")
		last := ""
		for range 3 {
			r.log("x")
			last = expect(t, c, "update").ID
		}
		other := startOn(t, redis, o)
		first.stop()
		if _, err := c.next(); err == nil {
			t.Fatal("a stream outlived its node")
		}
		missed := r.log("while away")
		c = open(other, "w", "?after="+last)
		if f := expect(t, c, "update"); f.ID != missed.String() {
			t.Errorf("went on at %s, want %s", f.ID, missed)
		}
	})
}

func TestRunIsWaitedFor(t *testing.T) {
	each(t, func(t *testing.T, open func(*node, string, string) client) {
		n := start(t)
		old := newRun(t, n.store, "w", "old")
		old.add(progress.TypeStarted)
		end := old.add(progress.TypeClosed)
		c := open(n, "w", "?run=new")
		if f := expect(t, c, "snapshot"); f.ID != end.String() {
			t.Fatalf("snapshot %s", f.ID)
		}
		// Also not from the predecessor's exact end.
		d := open(n, "w", "?run=new&after="+end.String())
		next := newRun(t, n.store, "w", "new")
		next.add(progress.TypeStarted)
		newEnd := next.add(progress.TypeClosed)
		for _, c := range []client{c, d} {
			expect(t, c, "update")
			if f := expect(t, c, "end"); f.ID != newEnd.String() {
				t.Errorf("end %s, want %s", f.ID, newEnd)
			}
			expectEOF(t, c)
		}
	})
}

// A viewer that reconnects from an old end, while a later chain goes on.
func TestLaterChainGoesOnFromTheOldEnd(t *testing.T) {
	each(t, func(t *testing.T, open func(*node, string, string) client) {
		n := start(t)
		end := newRun(t, n.store, "w", "old").add(progress.TypeClosed)
		started := newRun(t, n.store, "w", "new").add(progress.TypeStarted)
		c := open(n, "w", "?after="+end.String())
		if f := expect(t, c, "update"); f.ID != started.String() {
			t.Errorf("went on at %s, want %s", f.ID, started)
		}
	})
}

// Redis that is away at first or in the middle costs no viewer its stream.
func TestRedisAway(t *testing.T) {
	redis := testenv.NewRedis(t, testenv.RedisOptions{})
	port := portOf(t, redis.Addr)
	redis.Stop()
	n := startOn(t, redis, redisstore.Options{})
	ready := func() int {
		res, _ := get(t, n.url+"/readyz")
		return res.StatusCode
	}
	if got := ready(); got != http.StatusServiceUnavailable {
		t.Errorf("readyz: %d without Redis", got)
	}
	// With a position the answer depends on Redis. It does not come: the
	// stream opens and waits.
	pos := progress.Position{Epoch: 1, Seq: 1, Check: "abcdefab"}
	c := n.sse(t, "/v1/workflows/w/stream")
	d := n.sse(t, "/v1/workflows/w/stream", "Last-Event-ID", pos.String())

	redis = testenv.NewRedis(t, testenv.RedisOptions{Port: port})
	expect(t, c, "snapshot")
	expect(t, d, "gap")
	expect(t, d, "snapshot")
	eventually(t, "ready", func() bool { return ready() == http.StatusOK })

	r := newRun(t, n.store, "w", "run")
	var first progress.Position
	eventually(t, "written", func() bool {
		var err error
		first, err = r.tryAppend(t.Context(), r.event(progress.TypeLog, nil))
		return err == nil
	})
	if f := expect(t, c, "update"); f.ID != first.String() {
		t.Errorf("update %s, want %s", f.ID, first)
	}

	// In the middle: all connections are cut, and an event is published
	// before the subscription is back.
	for range 5 {
		kill(t, n, "pubsub")
		kill(t, n, "normal")
		var pos progress.Position
		eventually(t, "written", func() bool {
			var err error
			pos, err = r.tryAppend(t.Context(), r.event(progress.TypeLog, nil))
			return err == nil
		})
		if f := expect(t, c, "update"); f.ID != pos.String() {
			t.Fatalf("update %s, want %s", f.ID, pos)
		}
	}
	// A Redis that lost everything.
	redis.Stop()
	testenv.NewRedis(t, testenv.RedisOptions{Port: port})
	eventually(t, "written", func() bool {
		_, err := r.tryAppend(t.Context(), r.event(progress.TypeLog, nil))
		return err == nil
	})
	if _, _, reason := gapOf(t, expect(t, c, "gap")); reason != "lost" {
		t.Errorf("gap for %s", reason)
	}
	expect(t, c, "snapshot")
}

// A lost last message shows no hole; the comparison with the master finds it.
func TestLostLastMessage(t *testing.T) {
	n := start(t, func(o *subscriber.Options) { o.Config.CompareEvery = 50 * time.Millisecond })
	r := newRun(t, n.store, "w", "run")
	c := n.sse(t, "/v1/workflows/w/stream")
	expect(t, c, "snapshot")
	r.log("1")
	expect(t, c, "update")
	// A writer whose messages Redis does not pass on.
	acl(t, n.redis, "mute", "~*", "resetchannels", "+@all")
	mute := asUser(t, n, "mute")
	pos := newRun(t, mute, "w", "run").log("2")
	if mute.Stats().PublishFailed == 0 {
		t.Fatal("the message was published")
	}
	if f := expect(t, c, "update"); f.ID != pos.String() {
		t.Errorf("update %s, want %s", f.ID, pos)
	}
}
