package hub

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

// versions is a sparse source of one workflow, "w".
type versions struct {
	mu    sync.Mutex
	hub   *Hub
	snap  progress.Snapshot
	last  []progress.RawEvent
	adds  int
	subs  int
	heads int
}

func (s *versions) Add(context.Context, progress.Topic) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.adds++
	s.subs++
	return nil
}

func (s *versions) Remove(progress.Topic) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs--
}

func (s *versions) Read(context.Context, string, int64, int) (progress.View, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return progress.View{Snapshot: s.snap.Clone(), Events: slices.Clone(s.last)}, nil
}

func (s *versions) Heads(context.Context, []string) ([]progress.Position, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heads++
	return nil, errors.New("there is no store")
}

func (s *versions) TagSummaries(context.Context, string, int) ([]progress.Summary, error) {
	return nil, errors.New("there are no tags")
}

func (s *versions) counts() (adds, subs, heads int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.adds, s.subs, s.heads
}

// reach brings the workflow to a version; run is 1 to 9.
func (s *versions) reach(run, version int64, change ...func(*progress.Event)) {
	id := string('0' + rune(run))
	e := progress.Event{
		Epoch: run, Seq: version, WorkflowID: "w", RunID: id, Chain: "1", Type: progress.TypeProgress, Time: time.Now(),
	}
	for _, f := range change {
		f(&e)
	}
	data, err := json.Marshal(&e)
	if err != nil {
		panic(err)
	}
	s.mu.Lock()
	if err := s.snap.Advance(&e); err == nil {
		s.last = []progress.RawEvent{{Seq: e.Seq, Data: data}}
	}
	s.mu.Unlock()
	s.hub.Message(workflow("w"), data)
}

func closes(e *progress.Event) { e.Type, e.Status = progress.TypeClosed, progress.StatusCompleted }

func sparse(t *testing.T, o Options, f func(t *testing.T, h *Hub, s *versions)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.Sparse = true
		s := new(versions)
		h := New(s, o)
		s.hub = h
		h.Start()
		t.Cleanup(func() {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			h.Drain(ctx)
			h.Stop()
		})
		f(t, h, s)
	})
}

func version(run, seq int64) progress.Position { return progress.Position{Epoch: run, Seq: seq} }

// pass lets the next pass over the viewers be due.
func pass() {
	synctest.Wait()
	time.Sleep(100 * time.Millisecond)
}

// Versions that follow each other are updates; one that was jumped over, and
// another run of the chain, is a snapshot and no gap.
func TestSparse(t *testing.T) {
	sparse(t, Options{}, func(t *testing.T, h *Hub, s *versions) {
		s.reach(1, 4)
		p := view(t, h, "w", Want{})
		pass()
		s.reach(1, 5)
		pass()
		s.reach(1, 9)
		pass()
		s.reach(1, 9) // known
		s.reach(1, 8)
		pass()
		s.reach(2, 2)
		pass()
		s.reach(1, 12) // the run before has no say any more
		pass()
		s.reach(2, 3)
		pass()
		s.reach(2, 7, closes)
		check(t, p, "snapshot:4 update:5 snapshot:9 snapshot:2 update:3 snapshot:7 end:7 farewell")
		frames := p.frames(t)
		if got := frames[5].ID; got != "2-7" {
			t.Errorf("the last snapshot is at %q, want 2-7", got)
		}
		var snap progress.Snapshot
		mustDecode([]byte(frames[5].Data), &snap)
		if snap.RunID != "2" || snap.Status != progress.StatusCompleted || snap.FirstSeq != 0 {
			t.Errorf("the last snapshot: %+v", snap)
		}
		if _, _, heads := s.counts(); heads != 0 {
			t.Errorf("heads were asked for %d times; there is no store", heads)
		}
	})
}

func TestSparseResumes(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		w          Want
	}{
		{"at the head", "update:6", after(version(2, 5))},
		{"behind it", "snapshot:5 update:6", after(version(2, 3))},
		{"from the beginning", "snapshot:5 update:6", after(progress.Position{})},
		{"in an earlier run", "snapshot:5 update:6", after(version(1, 90))},
		{"beyond it", "gap:future snapshot:5 update:6", after(version(2, 6))},
		{"in a later run", "gap:future snapshot:5 update:6", after(version(3, 1))},
		{"nowhere", "gap:bad_position snapshot:5 update:6", Want{Bad: true, Text: "1-2-01234567"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sparse(t, Options{}, func(t *testing.T, h *Hub, s *versions) {
				s.reach(2, 5)
				p := view(t, h, "w", tt.w)
				pass()
				s.reach(2, 6)
				pass()
				check(t, p, tt.want)
			})
		})
	}
}

// Who comes back with the position of the end has everything; the topic does
// not outlive its end by much, so that a later run is found.
func TestSparseEnd(t *testing.T) {
	sparse(t, Options{}, func(t *testing.T, h *Hub, s *versions) {
		s.reach(1, 5)
		p := view(t, h, "w", Want{})
		pass()
		s.reach(1, 6, closes)
		check(t, p, "snapshot:5 end:6 farewell")

		hd := h.Open(t.Context(), workflow("w"))
		if !hd.AtEnd(t.Context(), version(1, 6), "") || hd.AtEnd(t.Context(), version(1, 5), "") || hd.AtEnd(t.Context(), version(1, 6), "other") {
			t.Error("the end, and nothing else, is the end")
		}
		hd.Release()
		check(t, view(t, h, "w", after(version(1, 6))), "end:6 farewell")
		check(t, view(t, h, "w", after(version(1, 5))), "end:6 farewell")
		check(t, view(t, h, "w", Want{}), "snapshot:6 end:6 farewell")
		time.Sleep(2 * overLinger)
		if adds, subs, _ := s.counts(); adds != 1 || subs != 0 {
			t.Errorf("%d subscriptions, %d left; want 1 and none", adds, subs)
		}
	})
}

// Who waits for a run does not get its predecessor's end.
func TestSparseRun(t *testing.T) {
	sparse(t, Options{}, func(t *testing.T, h *Hub, s *versions) {
		s.reach(1, 5, closes)
		next := func(e *progress.Event) { e.Chain = "2" }
		p := view(t, h, "w", Want{Run: "2"})
		pass()
		s.reach(2, 1, next)
		pass()
		s.reach(3, 1, next, closes) // the same chain's
		check(t, p, "snapshot:5 snapshot:1 snapshot:1 end:1 farewell")
	})
}

func TestNotices(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	stale := Notice{Kind: ReasonStale, Since: since, Detail: "no worker answers"}
	sparse(t, Options{}, func(t *testing.T, h *Hub, s *versions) {
		s.reach(1, 5)
		early := view(t, h, "w", Want{})
		pass()
		h.Notice(workflow("w"), stale)
		synctest.Wait()
		stale.Detail = "still"
		h.Notice(workflow("w"), stale) // the same outage
		pass()
		at := view(t, h, "w", after(version(1, 5)))
		bad := view(t, h, "w", Want{Bad: true, Text: "x"})
		pass()
		h.Notice(workflow("w"), Notice{Kind: ReasonDegraded, Since: since})
		both := view(t, h, "w", Want{})
		pass()
		h.Resolve(workflow("w"), ReasonStale)
		s.reach(1, 6)
		pass()
		late := view(t, h, "w", Want{})
		pass()
		h.Resolve(workflow("w"), ReasonDegraded)
		after := view(t, h, "w", Want{})
		pass()
		h.Notice(workflow("w"), stale) // another outage
		pass()
		for _, tt := range []struct {
			name string
			p    *pipe
			want string
		}{
			{"from the beginning", early, "snapshot:5 gap:stale snapshot:5 gap:degraded snapshot:5 update:6 gap:stale snapshot:6"},
			{"resumed meanwhile", at, "gap:stale snapshot:5 gap:degraded snapshot:5 update:6 gap:stale snapshot:6"},
			{"with no position", bad, "gap:stale snapshot:5 gap:degraded snapshot:5 update:6 gap:stale snapshot:6"},
			{"in two outages", both, "gap:stale gap:degraded snapshot:5 update:6 gap:stale snapshot:6"},
			{"in one outage", late, "gap:degraded snapshot:6 gap:stale snapshot:6"},
			{"in none", after, "snapshot:6 gap:stale snapshot:6"},
		} {
			synctest.Wait()
			if got := kinds(tt.p.frames(t)); got != tt.want {
				t.Errorf("%s: saw %q\nwant %q", tt.name, got, tt.want)
			}
		}
		want := Gap{From: "1-5", To: "1-5", Reason: ReasonStale, Since: since.UTC(), Detail: "no worker answers"}
		if got := early.frames(t)[1].gap(); got != want {
			t.Errorf("the gap is %+v, want %+v", got, want)
		}
		if got := at.frames(t)[0].gap().Detail; got != "still" {
			t.Errorf("who comes later is told %q", got)
		}
		if got := early.frames(t)[1].Data; !strings.Contains(got, `"since":"2026-01-02T02:04:05Z"`) {
			t.Errorf("the gap is %s", got)
		}
		if n := h.Metrics().Gaps(ReasonStale); n != 4+6 {
			t.Errorf("%d gaps were counted, want 10", n)
		}
	})
}

// What is told before anything is known does not wait for it.
func TestNoticeFirst(t *testing.T) {
	sparse(t, Options{}, func(t *testing.T, h *Hub, s *versions) {
		hd := h.Open(t.Context(), workflow("w"))
		defer hd.Release()
		h.Notice(workflow("w"), Notice{Kind: ReasonStale})
		p := view(t, h, "w", Want{})
		pass()
		s.reach(1, 3)
		check(t, p, "gap:stale snapshot:0 snapshot:3")
	})
}

func TestSparseBadMessages(t *testing.T) {
	sparse(t, Options{}, func(t *testing.T, h *Hub, s *versions) {
		s.reach(1, 5)
		p := view(t, h, "w", Want{})
		pass()
		for _, text := range []string{"", "x", "{}", `{"epoch":1,"seq":6}`, `{"epoch":0,"seq":6,"type":"progress"}`} {
			h.Message(workflow("w"), []byte(text))
		}
		pass()
		check(t, p, "snapshot:5")
		if n := h.Metrics().BadMessages.Load(); n != 5 {
			t.Errorf("%d bad messages, want 5", n)
		}
	})
}
