package redisstore_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

func TestConcurrentWriters(t *testing.T) {
	contract(t, redisstore.Options{MaxLen: -1}, func(t *testing.T, h *harness) {
		const writers, appends, each = 8, 20, 3
		sub, got := h.subscribe(t)
		h.add(t, sub, workflow("id"))
		var mu sync.Mutex
		var answered []progress.Position
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				p := redisstore.Producer{Name: fmt.Sprint("a/r/", w), Attempt: 1}
				for n := range appends {
					a := redisstore.Append{WorkflowID: "id", Fence: fence("r", 1), Producer: p, Number: int64(n*each + 1), Events: logs("id", "r", each)}
					for i := range a.Events {
						a.Events[i].Step = fmt.Sprint(w)
						a.Events[i].Message = fmt.Sprint(n*each + i)
					}
					res, err := h.store.Append(t.Context(), a)
					if err != nil {
						t.Error(err)
					}
					mu.Lock()
					answered = append(answered, res.Position)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		events := h.events(t, "id")
		if len(events) != writers*appends*each {
			t.Fatalf("%d events, want %d", len(events), writers*appends*each)
		}
		// What each writer was answered stands in the stream, and what was
		// published is the stream, in its order and byte for byte.
		for _, pos := range answered {
			if e := events[pos.Seq-1]; e.Position() != pos {
				t.Fatalf("a writer was answered %v; the stream has %v", pos, e.Position())
			}
		}
		for _, entry := range h.stored(t, "id").Stream {
			if m := got.next(t); m.data != entry.Values["e"] {
				t.Fatalf("published was %s\nthe stream has %s", m.data, entry.Values["e"])
			}
		}
		next := map[string]int{}
		for _, e := range events {
			if e.Message != fmt.Sprint(next[e.Step]) || e.Lost != 0 {
				t.Fatalf("writer %s: event %s (lost %d), want %d", e.Step, e.Message, e.Lost, next[e.Step])
			}
			next[e.Step]++
		}
	})
}

func TestDuplicate(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		p := redisstore.Producer{Name: "w/r"}
		a := redisstore.Append{WorkflowID: "id", Fence: fence("r", 1), Producer: p, Number: 1, Events: logs("id", "r", 2)}
		first := h.append(t, a)
		other := h.append(t, redisstore.Append{WorkflowID: "id", Fence: fence("r", 1), Producer: redisstore.Producer{Name: "other"}, Number: 1, Events: logs("id", "r", 1)})
		again := h.append(t, a)
		if !again.Duplicate || again.Position != first.Position || first.Duplicate || other.Duplicate {
			t.Fatalf("first %+v, again %+v", first, again)
		}
		if n := len(h.events(t, "id")); n != 3 {
			t.Fatalf("%d events", n)
		}
		if s := h.store.Stats(); s.Duplicates != 1 || s.Events != 3 {
			t.Fatalf("%+v", s)
		}
		// Repeated after the chain is closed, it is still no error: it was
		// written, and its producer only has not heard so.
		h.append(t, redisstore.Append{WorkflowID: "id", Fence: fence("r", 1), Producer: redisstore.Producer{Name: "closed/r"}, Number: 1, Events: []progress.Event{event("id", "r", progress.TypeClosed, nil)}})
		if again := h.append(t, a); !again.Duplicate {
			t.Fatalf("%+v", again)
		}
	})
}

func TestLaterBatchLandsFirst(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		p := redisstore.Producer{Name: "a/r/1", Attempt: 1}
		at := func(n int64, events int) redisstore.Append {
			return redisstore.Append{WorkflowID: "id", Fence: fence("r", 1), Producer: p, Number: n, Events: logs("id", "r", events)}
		}
		h.append(t, at(1, 2))
		if res := h.append(t, at(6, 2)); res.Lost != 3 {
			t.Fatalf("lost %d, want 3", res.Lost)
		}
		if res := h.append(t, at(3, 3)); !res.Duplicate {
			t.Fatal("the earlier batch was written after the later one")
		}
		if res := h.append(t, at(8, 1)); res.Lost != 0 {
			t.Fatalf("lost %d", res.Lost)
		}
		events := h.events(t, "id")
		if len(events) != 5 || events[2].Lost != 3 || events[3].Lost != 0 {
			t.Fatalf("%+v", events)
		}
		if s := h.store.Stats(); s.Lost != 3 {
			t.Fatalf("%+v", s)
		}
		sparse := redisstore.Producer{Name: "w/r", Sparse: true}
		if res := h.append(t, redisstore.Append{WorkflowID: "id", Fence: fence("r", 1), Producer: sparse, Number: 4001, Events: logs("id", "r", 1)}); res.Lost != 0 {
			t.Fatalf("a sparse producer lost %d", res.Lost)
		}
	})
}

func TestExecutionsSupersede(t *testing.T) {
	type rank struct {
		started, attempt int
		nonce            string
	}
	for _, tt := range []struct {
		name         string
		older, newer rank
	}{
		{"a retry", rank{1, 1, "x"}, rank{2, 2, "a"}},
		{"a local activity executed again", rank{1, 1, "a"}, rank{1, 1, "b"}},
		{"a longer nonce", rank{1, 1, "a"}, rank{1, 1, "aa"}},
		{"upper case sorts first", rank{1, 1, "Z"}, rank{1, 1, "a"}},
		{"attempts start again after a reset of the activity", rank{1, 7, "x"}, rank{2, 1, "a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
				at := func(r rank, n int64) redisstore.Append {
					return redisstore.Append{WorkflowID: "id", Fence: fence("r", 1), Number: n, Events: logs("id", "r", 1),
						Producer: redisstore.Producer{Name: "a/r/1", Started: fence("", r.started).RunTime, Attempt: r.attempt, Nonce: r.nonce}}
				}
				h.append(t, at(tt.older, 1))
				h.append(t, at(tt.older, 2))
				if res := h.append(t, at(tt.newer, 1)); res.Duplicate || res.Lost != 0 {
					t.Fatalf("the newer execution's first event: %+v", res)
				}
				h.refused(t, at(tt.older, 3), progress.ErrSuperseded)
				h.refused(t, at(tt.older, 2), progress.ErrSuperseded)
				h.append(t, at(tt.newer, 2))
				// After the newer one has left, the older one is still refused.
				if err := h.store.Leave(t.Context(), "id", at(tt.newer, 0).Producer); err != nil {
					t.Fatal(err)
				}
				h.refused(t, at(tt.older, 3), progress.ErrSuperseded)
				if n := len(h.events(t, "id")); n != 4 {
					t.Fatalf("%d events", n)
				}
			})
		})
	}
}

func TestRunFence(t *testing.T) {
	in := func(run, chain string, seconds int, typ progress.EventType) redisstore.Append {
		f := fence(run, seconds)
		f.Chain = chain
		e := event("id", run, typ, func(e *progress.Event) { e.Chain = chain })
		return redisstore.Append{WorkflowID: "id", Fence: f, Events: []progress.Event{e}}
	}
	queued := func(run string, seconds int) redisstore.Append {
		a := in(run, run, seconds, progress.TypeStarted)
		a.Fence.Provisional, a.Events[0].Status = true, progress.StatusQueued
		return a
	}
	const log, started, closed = progress.TypeLog, progress.TypeStarted, progress.TypeClosed
	ok := error(nil)
	type step struct {
		a    redisstore.Append
		want error
	}
	for name, steps := range map[string][]step{
		"a superseded run": {
			{in("r1", "c", 1, started), ok}, {in("r2", "c", 2, started), ok}, {in("r1", "c", 1, log), progress.ErrSuperseded},
			{in("r1", "c", 0, log), progress.ErrUnknownRun}, {in("r2", "c", 0, log), ok}, {in("r3", "c", 2, log), progress.ErrSuperseded},
		},
		"without the time only the current run": {
			{in("r1", "c", 0, log), progress.ErrUnknownRun}, {in("r1", "c", 1, log), ok}, {in("r1", "c", 0, log), ok},
		},
		"nothing after closed": {
			{in("r1", "c", 1, started), ok}, {in("r1", "c", 1, closed), ok}, {in("r1", "c", 1, log), progress.ErrClosed},
			{in("r1", "c", 1, closed), progress.ErrClosed}, {in("r0", "c", 0, log), progress.ErrUnknownRun},
		},
		"the next chain": {
			{in("r1", "r1", 1, started), ok}, {in("r1", "r1", 1, closed), ok}, {in("r2", "r2", 2, started), ok},
			{in("r1", "r1", 1, log), progress.ErrSuperseded}, {in("r2", "r2", 2, closed), ok},
		},
		"a reset reopens": {
			{in("r1", "r1", 1, started), ok}, {in("r1", "r1", 1, closed), ok}, {in("r2", "r1", 2, started), redisstore.ErrReopened},
			{in("r2", "r2", 2, started), ok}, {in("r2", "r1", 2, log), redisstore.ErrReopened}, {in("r1", "r1", 1, log), progress.ErrSuperseded},
			{in("r2", "r2", 2, closed), ok},
		},
		"a reset of an open chain": {
			{in("r1", "r1", 1, started), ok}, {in("r2", "r1", 2, started), ok}, {in("r1", "r1", 1, log), progress.ErrSuperseded},
		},
		"queued, then started": {
			{queued("r1", 5), ok}, {in("r1", "r1", 1, started), ok}, {in("r1", "r1", 1, log), ok},
		},
		"queued after a closed chain keeps its zombies out": {
			{in("r1", "r1", 3, started), ok}, {in("r1", "r1", 3, closed), ok}, {queued("r2", 4), ok},
			{in("r1", "r1", 3, log), progress.ErrSuperseded}, {in("r2", "r2", 5, started), ok},
		},
		"queued does not supersede an open run": {
			{in("r1", "r1", 1, started), ok}, {queued("r2", 4), progress.ErrUnknownRun}, {queued("r0", 0), progress.ErrSuperseded},
		},
		"queued comes late": {
			{in("r1", "r1", 1, started), ok}, {queued("r1", 1), progress.ErrSuperseded}, {queued("r1", 9), progress.ErrSuperseded},
			{in("r1", "r1", 1, closed), ok}, {queued("r1", 9), progress.ErrClosed},
		},
		"without runs": {
			{in("", "", 0, log), ok}, {in("", "", 0, log), ok}, {in("r1", "r1", 1, started), ok}, {in("", "", 0, log), progress.ErrInvalid},
		},
	} {
		t.Run(name, func(t *testing.T) {
			contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
				for i, s := range steps {
					s.a.Number, s.a.Producer.Name = int64(i+1), "test"
					if s.want != nil {
						h.refused(t, s.a, s.want)
						if s.want == redisstore.ErrReopened {
							h.refused(t, s.a, progress.ErrClosed)
						}
						continue
					}
					h.append(t, s.a)
				}
				h.events(t, "id")
			})
		})
	}
}

// A copy of an append may be under way for long: the client gave it up, sent
// it again, got its answer and left.
func TestDelayedCopyAfterLeaving(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		for attempt := 1; attempt <= 2; attempt++ {
			p := redisstore.Producer{Name: "a/r/1", Started: t0.Add(time.Duration(attempt) * time.Second), Attempt: attempt, Nonce: "n"}
			a := redisstore.Append{WorkflowID: "id", Fence: fence("r", 1), Producer: p, Number: 1, Events: logs("id", "r", 2)}
			last := a
			last.Number, last.Events = 3, logs("id", "r", 1)
			h.append(t, a)
			h.append(t, last)
			if err := h.store.Leave(t.Context(), "id", p); err != nil {
				t.Fatal(err)
			}
			for _, late := range []redisstore.Append{a, last} {
				if res := h.append(t, late); !res.Duplicate {
					t.Fatalf("attempt %d: a late copy was written again", attempt)
				}
			}
			if n := len(h.events(t, "id")); n != 3*attempt {
				t.Fatalf("%d events", n)
			}
		}
	})
}

// Marks go in groups, those that wrote longest ago first: looking through all
// of them is not to be paid for every new producer.
func TestMarksMakeRoom(t *testing.T) {
	contract(t, redisstore.Options{MaxProducers: 40}, func(t *testing.T, h *harness) {
		names := func() []string { return h.client.HKeys(t.Context(), h.key("id", ":producers")).Val() }
		for i := range 41 {
			p := redisstore.Producer{Name: fmt.Sprint("a/r/", i), Started: t0.Add(-time.Duration(i) * time.Second), Attempt: 1, Nonce: "n"}
			h.append(t, redisstore.Append{WorkflowID: "id", Fence: fence("r", 1), Producer: p, Number: 1, Events: logs("id", "r", 1)})
			if i == 5 {
				continue // this one goes on
			}
			if err := h.store.Leave(t.Context(), "id", p); err != nil {
				t.Fatal(err)
			}
			if i == 39 && len(names()) != 40 {
				t.Fatalf("%d producers", len(names()))
			}
		}
		left := names()
		if len(left) != 31 {
			t.Errorf("%d producers, want 40 less a quarter of the 39 marks, and the new one", len(left))
		}
		for i := range 41 {
			if want := i == 5 || i > 10; slices.Contains(left, fmt.Sprint("a/r/", i)) != want {
				t.Errorf("producer %d is there: %t", i, !want)
			}
		}
	})
}

func TestProducers(t *testing.T) {
	contract(t, redisstore.Options{MaxProducers: 2}, func(t *testing.T, h *harness) {
		by := func(p redisstore.Producer, n int64) redisstore.Append {
			return redisstore.Append{WorkflowID: "id", Fence: fence("r", 1), Producer: p, Number: n, Events: logs("id", "r", 1)}
		}
		p1 := redisstore.Producer{Name: "a/r/1", Attempt: 1}
		p2 := redisstore.Producer{Name: "a/r/2", Attempt: 2}
		p3 := redisstore.Producer{Name: "a/r/3", Attempt: 1}
		h.append(t, by(p1, 1))
		h.append(t, by(p2, 1))
		h.refused(t, by(p3, 1), progress.ErrTooManyProducers)
		if h.store.Stats().ProducersFull != 1 {
			t.Error("a refusal was not counted")
		}
		h.append(t, by(p1, 2)) // those that are there go on
		for range 2 {          // leaving twice is leaving
			if err := h.store.Leave(t.Context(), "id", p1); err != nil {
				t.Fatal(err)
			}
		}
		// What has left makes room when there is none; what has not, does not.
		h.append(t, by(p3, 1))
		h.refused(t, by(redisstore.Producer{Name: "a/r/4", Attempt: 1}, 1), progress.ErrTooManyProducers)
		if names := h.client.HKeys(t.Context(), h.key("id", ":producers")).Val(); len(names) != 2 || slices.Contains(names, "a/r/1") {
			t.Fatalf("producers %q", names)
		}
		// A program that is no execution is forgotten.
		if err := h.store.Leave(t.Context(), "id", p2); err != nil {
			t.Fatal(err)
		}
		outside := redisstore.Producer{Name: "program"}
		for range 2 {
			if res := h.append(t, by(outside, 1)); res.Duplicate {
				t.Fatal("a program that left and began again was taken for its earlier self")
			}
			if err := h.store.Leave(t.Context(), "id", outside); err != nil {
				t.Fatal(err)
			}
		}
		// A new run clears those of older runs, and no others.
		h.append(t, redisstore.Append{WorkflowID: "id", Fence: fence("r2", 2), Producer: redisstore.Producer{Name: "w/r2"}, Number: 1, Events: logs("id", "r2", 1)})
		h.append(t, redisstore.Append{WorkflowID: "id", Fence: fence("r2", 2), Producer: redisstore.Producer{Name: "outside"}, Number: 1, Events: logs("id", "r2", 1)})
		h.append(t, redisstore.Append{WorkflowID: "id", Fence: fence("r3", 3), Producer: redisstore.Producer{Name: "w/r3"}, Number: 1, Events: logs("id", "r3", 1)})
		names := h.client.HKeys(t.Context(), h.key("id", ":producers")).Val()
		if len(names) != 2 || names[0] == "w/r2" || names[1] == "w/r2" {
			t.Fatalf("producers %q", names)
		}
	})
}

func TestIDs(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		sub, got := h.subscribe(t)
		for _, id := range []string{
			"order-42", "{a}{b}", "}{", "with space", "line\nbreak\r\ttab", "100%", "%7B", `"quoted" 'both' \`,
			"größe/日本語", strings.Repeat("x", 1000), strings.Repeat("%", 1000), strings.Repeat("é", 500), "a:b:events", "*?[x]", "\x00\x7f",
		} {
			if err := sub.Add(t.Context(), progress.Topic{Name: id}); err != nil {
				t.Fatal(err)
			}
			h.append(t, redisstore.Append{WorkflowID: id, Fence: fence("r", 1), Producer: redisstore.Producer{Name: "a/r/" + id}, Number: 1, Events: logs(id, "r", 1)})
			if events := h.events(t, id); len(events) != 1 || events[0].WorkflowID != id {
				t.Fatalf("%q: %+v", id, events)
			}
			if m := <-got; m.topic.Name != id {
				t.Fatalf("a message for %q, want %q", m.topic.Name, id)
			}
		}
		for _, id := range []string{"", strings.Repeat("x", 1001), strings.Repeat("é", 501), "\xff"} {
			a := redisstore.Append{WorkflowID: id, Events: logs(id, "", 1)}
			if _, err := h.store.Append(t.Context(), a); !errors.Is(err, progress.ErrInvalid) {
				t.Errorf("append to %q: %v", id, err)
			}
			if _, err := h.store.Snapshot(t.Context(), id); !errors.Is(err, progress.ErrInvalid) {
				t.Errorf("snapshot of %q: %v", id, err)
			}
			if err := sub.Add(t.Context(), progress.Topic{Name: id}); !errors.Is(err, progress.ErrInvalid) {
				t.Errorf("subscribe to %q: %v", id, err)
			}
		}
		// Nothing was written outside the prefix, and no key has an odd byte.
		keys := h.allKeys(t)
		for _, key := range keys {
			for _, c := range []byte(key) {
				if c <= ' ' || c >= 0x7f {
					t.Fatalf("key %q", key)
				}
			}
		}
		if len(keys) < 45 {
			t.Fatalf("%d keys", len(keys))
		}
	})
}

func TestInvalidAppend(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		good := func() redisstore.Append {
			return redisstore.Append{WorkflowID: "id", Fence: fence("r", 1), Producer: redisstore.Producer{Name: "p"}, Number: 1, Events: logs("id", "r", 1)}
		}
		for name, spoil := range map[string]func(a *redisstore.Append){
			"no events":         func(a *redisstore.Append) { a.Events = nil },
			"too many events":   func(a *redisstore.Append) { a.Events = logs("id", "r", redisstore.MaxEvents+1) },
			"other workflow":    func(a *redisstore.Append) { a.WorkflowID = "other" },
			"other run":         func(a *redisstore.Append) { a.Events[0].RunID = "x" },
			"other chain":       func(a *redisstore.Append) { a.Fence.Chain = "x" },
			"number, no name":   func(a *redisstore.Append) { a.Producer.Name = "" },
			"negative number":   func(a *redisstore.Append) { a.Number = -1 },
			"huge number":       func(a *redisstore.Append) { a.Number = 1 << 60 },
			"no time":           func(a *redisstore.Append) { a.Events[0].Time = a.Events[0].Time.AddDate(-3000, 0, 0) },
			"tag too long":      func(a *redisstore.Append) { a.Events[0].Tags = []string{strings.Repeat("x", 257)} },
			"empty tag":         func(a *redisstore.Append) { a.Events[0].Tags = []string{""} },
			"too many tags":     func(a *redisstore.Append) { a.Events[0].Tags = strings.Split(strings.Repeat("x", 33), "") },
			"event after close": func(a *redisstore.Append) { a.Events = []progress.Event{event("id", "r", "closed", nil), a.Events[0]} },
		} {
			a := good()
			spoil(&a)
			if _, err := h.store.Append(t.Context(), a); !errors.Is(err, progress.ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if v, err := h.store.Read(t.Context(), "id", 0, 0); err != nil || v.Snapshot.Seq != 0 {
			t.Fatalf("%+v, %v", v, err)
		}
		if _, err := h.store.Snapshot(t.Context(), "id"); !errors.Is(err, progress.ErrNotFound) {
			t.Fatal(err)
		}
	})
}
