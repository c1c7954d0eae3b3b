package hub

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

// A viewer whose socket is full keeps no queue: it goes on where it was, or
// gets a gap and a snapshot once the ring has gone past it.
func TestSlowViewer(t *testing.T) {
	t.Run("goes on", func(t *testing.T) {
		bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
			p := viewRoom(t, h, "w", Want{}, 17) // within the first frame
			synctest.Wait()
			s.publishLog("w", 100)
			time.Sleep(500 * time.Millisecond)
			p.setRoom(-1)
			time.Sleep(time.Second)
			frames := p.frames(t)
			for i, f := range frames {
				if f.seq() != int64(i) {
					t.Fatalf("frame %d is %s %s", i, f.Kind, f.ID)
				}
			}
			if len(frames) != 101 {
				t.Errorf("%d frames", len(frames))
			}
			// All that had waited went out together.
			if p.writes > 100 {
				t.Errorf("%d writes", p.writes)
			}
		})
	})
	t.Run("falls off the ring", func(t *testing.T) {
		bubble(t, Options{RingLen: 8}, func(t *testing.T, h *Hub, s *script) {
			p := viewRoom(t, h, "w", Want{}, -1)
			check(t, p, "snapshot:0")
			p.setRoom(0)
			log(s, "w")
			synctest.Wait() // this one waits for the socket
			s.publishLog("w", 20)
			synctest.Wait()
			p.setRoom(-1)
			time.Sleep(time.Second)
			check(t, p, "snapshot:0 update:1 gap:slow snapshot:21")
			if g := p.frames(t)[2].gap(); g.From != s.at("w", 1).String() {
				t.Errorf("gap %+v", g)
			}
			log(s, "w")
			check(t, p, "snapshot:0 update:1 gap:slow snapshot:21 update:22")
			if h.Metrics().Gaps(ReasonSlow) != 1 {
				t.Error("not counted")
			}
		})
	})
	t.Run("takes nothing and is closed", func(t *testing.T) {
		bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
			p := viewRoom(t, h, "w", Want{}, 5)
			fast := view(t, h, "w", Want{})
			time.Sleep(2 * time.Second)
			if p.why() != CloseSlow || h.Metrics().Closes(CloseSlow) != 1 {
				t.Errorf("closed by %q", p.why())
			}
			log(s, "w")
			check(t, fast, "snapshot:0 update:1")
			if h.Conns("") != 1 || h.Conns("sse") != 1 {
				t.Errorf("%d connections are left", h.Conns(""))
			}
		})
	})
}

// The same promises hold where a goroutine per viewer writes.
func TestOrdinaryWay(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
		p := &pipe{room: -1}
		c, err := connect(h, p)
		if err != nil {
			t.Fatal(err)
		}
		p.c = c
		var done sync.WaitGroup
		done.Go(func() { c.Serve(t.Context()) })
		if err := c.Follow(workflow("w"), Want{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		s.publishLog("w", 3)
		s.publish("w", 7, closedEvent)
		synctest.Wait()
		done.Wait()
		// What was published at once is written in order, end last.
		check(t, p, "snapshot:0 update:1 update:2 update:3 end:4 farewell")
	})
}

// A snapshot too large to be copied is shared by all who need it.
func TestLargeSnapshotIsShared(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
		for range 50 {
			s.append("w", 7, progress.Event{Type: progress.TypeOutput, Step: "talk", Attempt: 1, Data: []byte(`"` + strings.Repeat("x", 1000) + `"`)})
		}
		var all []*pipe
		for range 3 {
			all = append(all, viewRoom(t, h, "w", Want{Bad: true, Text: "x"}, 10)) // gap, then snapshot
		}
		synctest.Wait()
		var then []*byte
		for _, p := range all {
			p.c.mu.Lock()
			then = append(then, &p.c.then[0])
			p.c.mu.Unlock()
			p.setRoom(-1)
		}
		if then[0] != then[1] || then[0] != then[2] {
			t.Error("each viewer has a copy of its own")
		}
		time.Sleep(time.Second)
		for _, p := range all {
			check(t, p, "gap:bad_position snapshot:50")
		}
		s.publish("w", 7, closedEvent)
		for _, p := range all {
			check(t, p, "gap:bad_position snapshot:50 end:51 farewell")
		}
	})
}

func TestLinger(t *testing.T) {
	bubble(t, Options{Linger: 10 * time.Second}, func(t *testing.T, h *Hub, s *script) {
		for range 3 {
			p := view(t, h, "w", Want{})
			synctest.Wait()
			p.end(CloseClient)
			time.Sleep(9 * time.Second)
			if subs, adds, _ := s.counts(workflow("w")); subs != 1 || adds != 1 {
				t.Fatalf("%d subscriptions after %d adds", subs, adds)
			}
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if subs, _, _ := s.counts(workflow("w")); subs != 0 || h.Topics() != 0 {
			t.Errorf("%d subscriptions, %d topics are left", subs, h.Topics())
		}
		p := view(t, h, "w", Want{})
		log(s, "w")
		synctest.Wait()
		if subs, adds, _ := s.counts(workflow("w")); subs != 1 || adds != 2 {
			t.Errorf("%d subscriptions after %d adds", subs, adds)
		}
		check(t, p, "snapshot:1")
	})
}

// A topic that comes back while the last of its name is still on its way out
// keeps its subscription.
func TestTopicComesBackAtOnce(t *testing.T) {
	bubble(t, Options{Linger: time.Second}, func(t *testing.T, h *Hub, s *script) {
		hold := make(chan struct{})
		s.onRead = func(string, int64) { <-hold } // and hears no cancellation
		p := view(t, h, "w", Want{})
		synctest.Wait()
		p.end(CloseClient)
		time.Sleep(2 * time.Second) // the topic is over, its goroutine is not
		q := view(t, h, "w", Want{})
		synctest.Wait()
		close(hold)
		synctest.Wait()
		log(s, "w")
		check(t, q, "snapshot:0 update:1")
		if subs, _, _ := s.counts(workflow("w")); subs != 1 {
			t.Errorf("%d subscriptions", subs)
		}
	})
}

func TestHeartbeat(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
		p := view(t, h, "w", Want{})
		time.Sleep(45500 * time.Millisecond)
		p.mu.Lock()
		got := strings.Count(p.got.String(), ":\n\n")
		p.mu.Unlock()
		if got != 3 {
			t.Errorf("%d heartbeats in 45 s", got)
		}
		p.dead.Store(true)
		time.Sleep(16 * time.Second)
		if p.why() != CloseDead {
			t.Errorf("closed by %q", p.why())
		}
	})
}

func TestDrain(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
		p := view(t, h, "w", Want{})
		synctest.Wait()
		log(s, "w")
		synctest.Wait()
		stuck := viewRoom(t, h, "w", Want{}, 3)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		h.Drain(ctx)
		check(t, p, "snapshot:0 update:1 farewell")
		if p.why() != CloseDrain || stuck.why() != CloseDrain || h.Conns("") != 0 {
			t.Errorf("closed by %q and %q, %d left", p.why(), stuck.why(), h.Conns(""))
		}
		if _, err := connect(h, &pipe{}); err == nil {
			t.Error("a new connection was let in")
		}
	})
}

func TestControlIsBounded(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
		p := viewRoom(t, h, "w", Want{}, 3)
		synctest.Wait()
		for range 2 * maxControl / 100 {
			_ = p.c.Control(make([]byte, 100))
		}
		if p.why() != CloseControl {
			t.Errorf("closed by %q", p.why())
		}
	})
}

// Control frames go between frames, never into one.
func TestControlBetweenFrames(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
		p := viewRoom(t, h, "w", Want{}, 10)
		synctest.Wait()
		s.publishLog("w", 3)
		_ = p.c.Control([]byte("event: pong\ndata: 1\n\n"))
		p.setRoom(-1)
		time.Sleep(time.Second)
		check(t, p, "snapshot:0 pong update:1 update:2 update:3")
	})
}

func TestMany(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
		log(s, "b")
		p := &pipe{direct: true, room: -1, enc: SSEMany}
		c, _ := connect(h, p)
		p.c = c
		for _, id := range []string{"a", "b"} {
			_ = c.Follow(workflow(id), Want{})
			synctest.Wait()
		}
		log(s, "a")
		synctest.Wait()
		s.publish("b", 7, closedEvent)
		synctest.Wait()
		// The connection outlives an end: a later chain goes on.
		s.publish("b", 7, progress.Event{Type: progress.TypeLog, RunID: "r2", Chain: "r2"})
		synctest.Wait()
		want := []struct{ kind, id string }{
			{"snapshot", "0-0"}, // as long as a is all there is
			{"snapshot", "0-0," + s.at("b", 1).String()},
			{"update", s.at("a", 1).String() + "," + s.at("b", 1).String()},
			{"end", s.at("a", 1).String() + "," + s.at("b", 2).String()},
			{"update", s.at("a", 1).String() + "," + s.at("b", 3).String()},
		}
		frames := p.frames(t)
		for i, f := range frames {
			if i >= len(want) || f.Kind != want[i].kind || f.ID != want[i].id {
				t.Errorf("frame %d: %s %s", i, f.Kind, f.ID)
			}
		}
		if len(frames) != len(want) || p.why() != "" {
			t.Errorf("%d frames, closed by %q", len(frames), p.why())
		}
		if !strings.HasPrefix(frames[4].Data, `{"topic":{"workflow":"b"},"id":"`+s.at("b", 3).String()+`","data":{`) {
			t.Errorf("data %s", frames[4].Data)
		}
		if !c.Unfollow(workflow("b")) || c.Unfollow(workflow("b")) || c.Topics() != 1 {
			t.Error("unfollow is wrong")
		}
		log(s, "b")
		log(s, "a")
		synctest.Wait()
		if f := p.frames(t); len(f) != 6 || f[5].ID != s.at("a", 2).String() {
			t.Errorf("after unfollow: %v", f[5:])
		}
	})
}

func TestTag(t *testing.T) {
	tag := progress.Topic{Kind: progress.TopicTag, Name: "blue"}
	summary := func(id string, at int64, msg string) progress.Summary {
		return progress.Summary{WorkflowID: id, Message: msg, UpdatedAt: time.UnixMicro(at).UTC()}
	}
	bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
		s.tags = []progress.Summary{summary("b", 20, ""), summary("a", 10, "")}
		p := &pipe{direct: true, room: -1, enc: SSEMany}
		c, _ := connect(h, p)
		p.c = c
		_ = c.Follow(tag, Want{})
		synctest.Wait()
		h.Message(tag, marshal(summary("a", 30, "new")))
		h.Message(tag, marshal(summary("a", 5, "old"))) // newest only
		synctest.Wait()
		check(t, p, "snapshot:0 update:0")
		if f := p.frames(t); f[0].ID != "" || !strings.HasPrefix(f[0].Data, `{"topic":{"tag":"blue"},"data":{"workflows":[{"workflow_id":"b"`) || !strings.Contains(f[1].Data, "new") {
			t.Errorf("frames %v", f)
		}
		// A late viewer's listing knows of the change.
		q := &pipe{direct: true, room: -1, enc: SSEMany}
		q.c, _ = connect(h, q)
		_ = q.c.Follow(tag, Want{})
		check(t, q, "snapshot:0")
		if f := q.frames(t); !strings.Contains(f[0].Data, `[{"workflow_id":"a","message":"new"`) {
			t.Errorf("listing %s", f[0].Data)
		}
		time.Sleep(31 * time.Second)
		check(t, p, "snapshot:0 update:0 snapshot:0")
	})
}

func TestTextFrame(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 65535, 65536} {
		f := TextFrame(make([]byte, n))
		head := map[bool]int{n <= 125: 2}[true]
		switch {
		case n > 65535:
			head = 10
		case n > 125:
			head = 4
		}
		if f[0] != 0x81 || len(f) != n+head {
			t.Errorf("%d bytes: %d, head %x", n, len(f), f[:head])
		}
	}
}

// A foreign writer's line ends and broken UTF-8 break no frame.
func TestOneLine(t *testing.T) {
	e, ok := newEntry([]byte("{\"epoch\":7,\"seq\":1,\"check\":\"abcdefab\",\r\n\"message\":\"\xff\"}"))
	if !ok || string(e.data) != "{\"epoch\":7,\"seq\":1,\"check\":\"abcdefab\",  \"message\":\"\uFFFD\"}" {
		t.Errorf("%v %q", ok, e.data)
	}
}

func FuzzNewEntry(f *testing.F) {
	f.Add([]byte(`{"epoch":7,"seq":1,"check":"abcdefab","type":"log"}`))
	f.Add([]byte(`{"seq":1,"epoch":7,"check":"abcdefab"}`))
	f.Add([]byte(`{"epoch":1,"seq":`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, ok := newEntry(data)
		if !ok {
			return
		}
		if e.pos.Epoch <= 0 || e.pos.Seq <= 0 || len(e.pos.Check) != 8 || strings.ContainsAny(string(e.data), "\r\n") {
			t.Errorf("%+v from %q", e.pos, data)
		}
		follows(progress.Position{}, e.pos, data)
	})
}

// What comes first comes first, whatever else there is for the connection.
func TestFirstBytes(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
		place, err := h.Reserve()
		if err != nil {
			t.Fatal(err)
		}
		p := &pipe{direct: true, room: -1}
		if p.c, err = place.NewConn(p, []byte("event: hello\ndata: 1\n\n")); err != nil {
			t.Fatal(err)
		}
		p.c.beat()
		_ = p.c.Follow(workflow("w"), Want{})
		check(t, p, "hello snapshot:0")
	})
}

// A topic that is followed twice at once is followed once.
func TestFollowTwiceAtOnce(t *testing.T) {
	for range 500 {
		bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
			p := &pipe{direct: true, room: -1, enc: WebSocketMany}
			p.c, _ = connect(h, p)
			var group sync.WaitGroup
			for range 2 {
				group.Go(func() { _ = p.c.Follow(workflow("w"), Want{}) })
			}
			group.Wait()
			if n := p.c.Topics(); n != 1 {
				t.Fatalf("%d viewers of one topic", n)
			}
		})
	}
}

// One connection that comes and goes leaves a bounded number of topics.
func TestLingeringIsBounded(t *testing.T) {
	bubble(t, Options{MaxLingering: 10}, func(t *testing.T, h *Hub, s *script) {
		p := &pipe{direct: true, room: -1, enc: WebSocketMany}
		p.c, _ = connect(h, p)
		for i := range 100 {
			_ = p.c.Follow(workflow(fmt.Sprint(i)), Want{})
			synctest.Wait()
			p.c.Unfollow(workflow(fmt.Sprint(i)))
			synctest.Wait()
		}
		if h.Topics() != 10 {
			t.Errorf("%d topics linger", h.Topics())
		}
		_ = p.c.Follow(workflow("1"), Want{}) // one of them comes back
		p.c.Unfollow(workflow("1"))
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if h.Topics() != 0 || h.lingering != 0 {
			t.Errorf("%d topics are left, %d counted", h.Topics(), h.lingering)
		}
	})
}
