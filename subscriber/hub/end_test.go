package hub

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

func TestEnd(t *testing.T) {
	t.Run("live, then a later chain", func(t *testing.T) {
		bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
			log(s, "w")
			p := view(t, h, "w", Want{})
			synctest.Wait()
			s.publish("w", 7, closedEvent)
			s.publish("w", 7, progress.Event{Type: progress.TypeLog, RunID: "r2", Chain: "r2"})
			check(t, p, "snapshot:1 end:2 farewell")
			if p.why() != CloseEnd {
				t.Errorf("closed by %q", p.why())
			}
			// From the old end it goes on with the later chain.
			q := view(t, h, "w", after(s.at("w", 2)))
			check(t, q, "update:3")
		})
	})
	t.Run("for one who comes afterwards", func(t *testing.T) {
		bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
			s.append("w", 7, progress.Event{Type: progress.TypeLog})
			s.append("w", 7, closedEvent)
			check(t, view(t, h, "w", Want{}), "snapshot:2 end:2 farewell")
			check(t, view(t, h, "w", after(s.at("w", 1))), "end:2 farewell")
			hd := h.Open(t.Context(), workflow("w"))
			defer hd.Release()
			if !hd.AtEnd(t.Context(), s.at("w", 2), "") || hd.AtEnd(t.Context(), s.at("w", 1), "") || hd.AtEnd(t.Context(), s.at("w", 2), "other") || !hd.AtEnd(t.Context(), s.at("w", 2), "run") {
				t.Error("AtEnd is wrong")
			}
		})
	})
	t.Run("when only the hash is left", func(t *testing.T) {
		bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
			s.append("w", 7, closedEvent)
			s.stream("w").trimmed = 1
			p := view(t, h, "w", Want{})
			check(t, p, "snapshot:1 end:1 farewell")
			var e progress.Event
			mustDecode([]byte(p.frames(t)[1].Data), &e)
			if e.Status != progress.StatusCompleted || e.Position() != s.position("w") {
				t.Errorf("end %+v", e)
			}
		})
	})
	t.Run("the wanted run alone", func(t *testing.T) {
		bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
			s.append("w", 7, closedEvent) // of "run"
			p := view(t, h, "w", Want{Run: "r2"})
			check(t, p, "snapshot:1")
			q := view(t, h, "w", Want{Run: "r2", After: ptr(s.at("w", 1))})
			s.publish("w", 7, progress.Event{Type: progress.TypeStarted, Status: progress.StatusRunning, RunID: "r2", Chain: "r2"})
			s.publish("w", 7, progress.Event{Type: progress.TypeClosed, Status: progress.StatusFailed, RunID: "r3", Chain: "r2"})
			check(t, p, "snapshot:1 update:2 end:3 farewell")
			check(t, q, "update:2 end:3 farewell")
		})
	})
	t.Run("the predecessor's end is only an update", func(t *testing.T) {
		bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
			log(s, "w")
			p := view(t, h, "w", Want{Run: "r2"})
			synctest.Wait()
			s.publish("w", 7, closedEvent)
			check(t, p, "snapshot:1 update:2")
		})
	})
	t.Run("a run in the middle of a chain", func(t *testing.T) {
		bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
			for _, run := range []string{"a", "b", "c"} {
				s.append("w", 7, progress.Event{Type: progress.TypeLog, RunID: run, Chain: "a"})
			}
			s.append("w", 7, progress.Event{Type: progress.TypeClosed, Status: progress.StatusCompleted, RunID: "c", Chain: "a"})
			check(t, view(t, h, "w", Want{Run: "b"}), "snapshot:4 end:4 farewell")
		})
	})
	t.Run("a run that is over and was followed", func(t *testing.T) {
		bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
			s.append("w", 7, closedEvent)
			s.append("w", 7, progress.Event{Type: progress.TypeLog, RunID: "r2", Chain: "r2"})
			p := view(t, h, "w", Want{Run: "run"})
			synctest.Wait()
			s.publish("w", 7, progress.Event{Type: progress.TypeClosed, Status: progress.StatusCompleted, RunID: "r2", Chain: "r2"})
			check(t, p, "snapshot:2 end:3 farewell")
		})
	})
	t.Run("not the word closed in somebody's data", func(t *testing.T) {
		bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
			p := view(t, h, "w", Want{})
			synctest.Wait()
			s.publish("w", 7, progress.Event{Type: progress.TypeLog, Data: []byte(`{"type":"closed"}`)})
			check(t, p, "snapshot:0 update:1")
		})
	})
	t.Run("a run in the middle of a chain, from behind its events", func(t *testing.T) {
		bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
			for _, run := range []string{"a", "b", "c"} {
				s.append("w", 7, progress.Event{Type: progress.TypeLog, RunID: run, Chain: "a"})
			}
			p := view(t, h, "w", Want{Run: "b", After: ptr(s.at("w", 2))})
			synctest.Wait()
			s.publish("w", 7, progress.Event{Type: progress.TypeClosed, Status: progress.StatusCompleted, RunID: "c", Chain: "a"})
			check(t, p, "update:3 end:4 farewell")
			hd := h.Open(t.Context(), workflow("w"))
			defer hd.Release()
			if !hd.AtEnd(t.Context(), s.at("w", 4), "b") || hd.AtEnd(t.Context(), s.at("w", 4), "d") {
				t.Error("AtEnd is wrong")
			}
			check(t, view(t, h, "w", Want{Run: "b", After: ptr(s.at("w", 4))}), "end:4 farewell")
		})
	})
	t.Run("a run that is over and was followed, from its end", func(t *testing.T) {
		bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
			s.append("w", 7, closedEvent)
			s.append("w", 7, progress.Event{Type: progress.TypeLog, RunID: "r2", Chain: "r2"})
			p := view(t, h, "w", Want{Run: "run", After: ptr(s.at("w", 1))})
			synctest.Wait()
			s.publish("w", 7, progress.Event{Type: progress.TypeClosed, Status: progress.StatusCompleted, RunID: "r2", Chain: "r2"})
			check(t, p, "update:2 end:3 farewell")
		})
	})
}

// The end that goes with a snapshot is that snapshot's, also when the next
// chain begins before it can go out.
func TestEndBehindItsSnapshot(t *testing.T) {
	closed := func(size int) progress.Event {
		return progress.Event{Type: progress.TypeClosed, Status: progress.StatusFailed, Error: strings.Repeat("x", size)}
	}
	next := progress.Event{Type: progress.TypeStarted, Status: progress.StatusRunning, RunID: "r2", Chain: "r2"}
	t.Run("one topic", func(t *testing.T) {
		bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
			s.append("w", 7, closed(2*maxCopied))
			p := viewRoom(t, h, "w", Want{Bad: true, Text: "x"}, 10)
			synctest.Wait()
			s.publish("w", 7, next)
			synctest.Wait()
			p.setRoom(-1)
			time.Sleep(time.Second)
			check(t, p, "gap:bad_position snapshot:1 end:1 farewell")
		})
	})
	t.Run("many topics", func(t *testing.T) {
		bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
			s.append("w", 7, closed(2*maxBatch))
			p := &pipe{direct: true, room: 10, enc: SSEMany}
			p.c, _ = connect(h, p)
			_ = p.c.Follow(workflow("w"), Want{})
			synctest.Wait()
			s.publish("w", 7, next)
			synctest.Wait()
			p.setRoom(-1)
			time.Sleep(time.Second)
			frames := p.frames(t)
			for i, want := range []struct {
				kind string
				seq  int64
			}{{"snapshot", 1}, {"end", 1}, {"update", 2}} {
				if i >= len(frames) || frames[i].Kind != want.kind || frames[i].ID != s.at("w", want.seq).String() {
					t.Fatalf("frame %d of %d is not %v", i, len(frames), want)
				}
			}
			if len(frames) != 3 {
				t.Errorf("%d frames", len(frames))
			}
		})
	})
}
