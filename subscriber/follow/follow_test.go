package follow_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/subscriber/follow"
	"github.com/runcast/runcast/subscriber/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// step is what a sequence yields.
type step struct {
	event progress.Event
	err   error
}

// watcher yields what the test sends.
type watcher struct {
	mu    sync.Mutex
	steps chan step
	begun []string // "id after"
	open  int
}

func newWatcher() *watcher { return &watcher{steps: make(chan step)} }

func (w *watcher) Watch(ctx context.Context, id string, after progress.Position) iter.Seq2[progress.Event, error] {
	return func(yield func(progress.Event, error) bool) {
		w.mu.Lock()
		w.begun = append(w.begun, id+" "+after.String())
		w.open++
		w.mu.Unlock()
		defer func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.open--
		}()
		for {
			select {
			case s := <-w.steps:
				var notice *follow.Notice
				if !yield(s.event, s.err) {
					return
				}
				if s.err != nil && !errors.As(s.err, &notice) {
					return
				}
				if s.event.Type == progress.TypeClosed {
					return
				}
			case <-ctx.Done():
				yield(progress.Event{}, ctx.Err())
				return
			}
		}
	}
}

func (w *watcher) saw() (begun []string, open int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.begun, w.open
}

// sink notes what is passed on.
type sink struct {
	mu  sync.Mutex
	got []string
	// resolved counts what was said to be over.
	resolved map[hub.Reason]int
}

func (s *sink) note(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, text)
}

func (s *sink) Message(t progress.Topic, data []byte) { s.note(string(data)) }
func (s *sink) Notice(t progress.Topic, n hub.Notice) { s.note("notice " + string(n.Kind)) }
func (s *sink) Resolve(t progress.Topic, r hub.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resolved[r]++
}

func (s *sink) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.got, "\n")
}

func topic(id string) progress.Topic {
	return progress.Topic{Kind: progress.TopicWorkflow, Name: id}
}

func version(run, seq int64, change ...func(*progress.Event)) step {
	id := fmt.Sprint(run)
	e := progress.Event{
		Epoch: run, Seq: seq, Check: "01234567", WorkflowID: "w", RunID: id, Chain: "1",
		Type: progress.TypeProgress, Time: time.UnixMilli(run).UTC(), Message: "<a>",
	}
	for _, f := range change {
		f(&e)
	}
	return step{event: e}
}

func closed(e *progress.Event) { e.Type, e.Status = progress.TypeClosed, progress.StatusCompleted }

func bubble(t *testing.T, f func(t *testing.T, w *watcher, s *follow.Source, k *sink)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w, k := newWatcher(), &sink{resolved: make(map[hub.Reason]int)}
		s := follow.New(follow.Options{Watcher: w})
		if err := s.Add(t.Context(), topic("w")); err == nil {
			t.Error("a source that feeds nobody followed something")
		}
		s.Feed(k)
		if err := s.Add(t.Context(), topic("w")); err != nil {
			t.Fatal(err)
		}
		f(t, w, s, k)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, open := w.saw(); open != 0 || s.Stats().Upstreams.Load() != 0 {
			t.Errorf("%d sequences are open after the end", open)
		}
		if err := s.Add(t.Context(), topic("w")); err == nil {
			t.Error("a source that is closed followed something")
		}
	})
}

func TestSource(t *testing.T) {
	bubble(t, func(t *testing.T, w *watcher, s *follow.Source, k *sink) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Read(ctx, "w", 1, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("before anything is known, Read returned %v", err)
		}
		w.steps <- version(1000, 3)
		v, err := s.Read(t.Context(), "w", 1, 1)
		if err != nil || v.Snapshot.Position().String() != "1000-3" || len(v.Events) != 1 || v.Events[0].Seq != 3 {
			t.Errorf("Read: %+v, %v", v, err)
		}
		w.steps <- version(1000, 3)
		w.steps <- version(1000, 2)
		w.steps <- version(0, 4)
		w.steps <- version(1000, 7)
		w.steps <- version(2000, 1)
		w.steps <- version(1000, 8)
		synctest.Wait()
		lines := strings.Split(k.all(), "\n")
		if len(lines) != 3 {
			t.Fatalf("passed on:\n%s", k.all())
		}
		const want = `{"epoch":1000,"seq":3,"workflow_id":"w","run_id":"1000","chain":"1","type":"progress","time":"1970-01-01T00:00:01Z","message":"<a>"}`
		if lines[0] != want {
			t.Errorf("the first is\n%s\nwant\n%s", lines[0], want)
		}
		st := s.Stats()
		if st.Upstreams.Load() != 1 || st.Begun.Load() != 1 || st.Events.Load() != 3 || st.Known.Load() != 3 || st.Bad.Load() != 1 {
			t.Errorf("counted upstreams %d begun %d events %d known %d bad %d",
				st.Upstreams.Load(), st.Begun.Load(), st.Events.Load(), st.Known.Load(), st.Bad.Load())
		}
		if err := s.Refused("w"); err != nil {
			t.Errorf("it is refused: %v", err)
		}
	})
}

// One watch, however often it is asked for, from Add to Remove.
func TestOneUpstream(t *testing.T) {
	bubble(t, func(t *testing.T, w *watcher, s *follow.Source, _ *sink) {
		for range 10 {
			if err := s.Add(t.Context(), topic("w")); err != nil {
				t.Fatal(err)
			}
		}
		w.steps <- version(1000, 1)
		if begun, open := w.saw(); len(begun) != 1 || open != 1 {
			t.Errorf("begun %q, %d open", begun, open)
		}
		s.Remove(topic("w"))
		s.Remove(topic("w"))
		if _, open := w.saw(); open != 0 {
			t.Errorf("%d sequences are open after Remove", open)
		}
		if _, err := s.Read(t.Context(), "w", 1, 1); err == nil {
			t.Error("what is not followed was read")
		}
	})
}

func TestTagsAreNotFollowed(t *testing.T) {
	bubble(t, func(t *testing.T, _ *watcher, s *follow.Source, _ *sink) {
		if err := s.Add(t.Context(), progress.Topic{Kind: progress.TopicTag, Name: "t"}); err == nil {
			t.Error("a tag was followed")
		}
		if _, err := s.TagSummaries(t.Context(), "t", 1); err == nil {
			t.Error("a tag was listed")
		}
	})
}

func TestRefused(t *testing.T) {
	for _, want := range []error{
		fmt.Errorf("workflow %q: %w", "w", progress.ErrNotFound),
		follow.Refuse(errors.New("no query handler")),
	} {
		t.Run(want.Error(), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *watcher, s *follow.Source, k *sink) {
				w.steps <- step{err: want}
				v, err := s.Read(t.Context(), "w", 1, 1)
				if err != nil || v.Snapshot.Seq != 0 {
					t.Errorf("Read: %+v, %v", v, err)
				}
				if err := s.Refused("w"); !errors.Is(err, want) {
					t.Errorf("Refused: %v", err)
				}
				time.Sleep(1900 * time.Millisecond)
				if begun, _ := w.saw(); len(begun) != 1 {
					t.Errorf("asked again at once: %q", begun)
				}
				if refused := errors.Is(want, follow.ErrRefused); refused != (k.all() == "notice stale") {
					t.Errorf("passed on %q", k.all())
				}
				// It may be started while somebody still waits.
				time.Sleep(200 * time.Millisecond)
				w.steps <- version(1000, 1)
				synctest.Wait()
				if err := s.Refused("w"); err != nil || !strings.Contains(k.all(), `"seq":1`) {
					t.Errorf("after it was started: %v, passed on %q", err, k.all())
				}
			})
		})
	}
}

// A workflow that cannot be followed is asked ever less often: that may cost it
// something. One that is not there may be started any time.
func TestRefusedAgain(t *testing.T) {
	for _, tt := range []struct {
		err  error
		most int
	}{{follow.Refuse(errors.New("no handler")), 9}, {progress.ErrNotFound, 151}} {
		bubble(t, func(t *testing.T, w *watcher, s *follow.Source, _ *sink) {
			go func() {
				for range tt.most {
					select {
					case w.steps <- step{err: tt.err}:
					case <-t.Context().Done():
					}
				}
			}()
			time.Sleep(5 * time.Minute)
			if begun, _ := w.saw(); len(begun) < tt.most-2 || len(begun) > tt.most {
				t.Errorf("%v: asked %d times in 5 minutes, want %d", tt.err, len(begun), tt.most)
			}
		})
	}
}

// A workflow may say how far it is, and yet not be one that can be followed.
// Then viewers are told why, which is not over with each try, and it is asked
// ever less often, too.
func TestRefusedBehindItsState(t *testing.T) {
	bubble(t, func(t *testing.T, w *watcher, s *follow.Source, k *sink) {
		go func() {
			for {
				for _, next := range []step{version(1000, 1), {err: follow.Refuse(errors.New("no update handler"))}} {
					select {
					case w.steps <- next:
					case <-t.Context().Done():
						return
					}
				}
			}
		}()
		time.Sleep(5 * time.Minute)
		if begun, _ := w.saw(); len(begun) < 7 || len(begun) > 9 {
			t.Errorf("asked %d times in 5 minutes", len(begun))
		}
		if got := k.all(); !strings.HasPrefix(got, "{") || strings.Count(got, "{") != 1 || !strings.Contains(got, "notice stale") {
			t.Errorf("passed on %q", got)
		}
		if n := k.resolved[hub.ReasonStale]; n != 1 { // with the first state
			t.Errorf("resolved %d times", n)
		}
		if st := s.Stats(); st.Failures.Load() != 0 || st.Refused.Load() < 7 {
			t.Errorf("counted %d failures, %d refused", st.Failures.Load(), st.Refused.Load())
		}
		// What it has said so far can be seen.
		if err := s.Refused("w"); err != nil {
			t.Errorf("refused: %v", err)
		}
	})
}

// A failure is no end: it is tried again from where it was, and viewers are
// told after some of them in a row, once.
func TestFailures(t *testing.T) {
	bubble(t, func(t *testing.T, w *watcher, s *follow.Source, k *sink) {
		w.steps <- version(1000, 5)
		for range 10 {
			w.steps <- step{err: errors.New("away")}
		}
		// What cannot be found any more is tried again, too.
		w.steps <- step{err: progress.ErrNotFound}
		synctest.Wait()
		if err := s.Refused("w"); err != nil {
			t.Errorf("what was followed is refused: %v", err)
		}
		w.steps <- version(1000, 6)
		synctest.Wait()
		begun, _ := w.saw()
		if len(begun) != 12 || begun[1] != "w 1000-5" || begun[11] != "w 1000-5" {
			t.Errorf("begun %q", begun)
		}
		if n := strings.Count(k.all(), "notice stale"); n != 1 || s.Stats().Stale.Load() != 1 || s.Stats().Failures.Load() != 11 {
			t.Errorf("%d notices, %d counted, %d failures", n, s.Stats().Stale.Load(), s.Stats().Failures.Load())
		}
	})
}

func TestNotice(t *testing.T) {
	bubble(t, func(t *testing.T, w *watcher, s *follow.Source, k *sink) {
		w.steps <- step{err: fmt.Errorf("poll: %w", &follow.Notice{Notice: hub.Notice{Kind: hub.ReasonDegraded}})}
		if v, err := s.Read(t.Context(), "w", 1, 1); err != nil || v.Snapshot.Seq != 0 {
			t.Errorf("Read: %+v, %v", v, err)
		}
		w.steps <- version(1000, 5) // the same sequence
		synctest.Wait()
		if begun, _ := w.saw(); len(begun) != 1 || !strings.HasPrefix(k.all(), "notice degraded\n{") {
			t.Errorf("begun %q, passed on %q", begun, k.all())
		}
		before := k.all()
		w.steps <- step{err: &follow.Notice{Notice: hub.Notice{Kind: "strange"}}}
		synctest.Wait()
		if n := k.resolved[hub.ReasonDegraded]; n != 0 {
			t.Errorf("degraded was over %d times before it was", n)
		}
		w.steps <- step{err: &follow.Notice{Notice: hub.Notice{Kind: follow.Live}}}
		w.steps <- version(2000, 1) // another run is not degraded
		synctest.Wait()
		if strings.Count(k.all(), "notice") != strings.Count(before, "notice") || k.resolved[hub.ReasonStale] != 3 || k.resolved[hub.ReasonDegraded] != 2 {
			t.Errorf("passed on %q, resolved %v", k.all(), k.resolved)
		}
	})
}

// What is behind a notice is for the log alone.
func TestCauseIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		w, k := newWatcher(), &sink{resolved: make(map[hub.Reason]int)}
		s := follow.New(follow.Options{Watcher: w, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		s.Feed(k)
		if err := s.Add(t.Context(), topic("w")); err != nil {
			t.Fatal(err)
		}
		w.steps <- step{err: &follow.Notice{
			Notice: hub.Notice{Kind: hub.ReasonStale, Detail: "not just now"}, Cause: errors.New("dial 10.0.0.7"),
		}}
		synctest.Wait()
		if !strings.Contains(log.String(), "dial 10.0.0.7") || k.all() != "notice stale" {
			t.Errorf("logged %q, passed on %q", log.String(), k.all())
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// What has ended is asked for again, from its state as it is: another run may
// have begun.
func TestEnd(t *testing.T) {
	bubble(t, func(t *testing.T, w *watcher, s *follow.Source, k *sink) {
		w.steps <- version(1000, 5, closed)
		time.Sleep(2100 * time.Millisecond)
		w.steps <- version(1000, 4)
		w.steps <- version(1000, 5, closed)
		time.Sleep(2100 * time.Millisecond)
		w.steps <- version(2000, 1)
		synctest.Wait()
		begun, _ := w.saw()
		if fmt.Sprint(begun) != "[w 0-0 w 0-0 w 0-0]" {
			t.Errorf("begun %q", begun)
		}
		if n := strings.Count(k.all(), "\n") + 1; n != 2 {
			t.Errorf("passed on:\n%s", k.all())
		}
	})
}

// A workflow beyond the bound is not followed, which is known at once, until
// another one makes room.
func TestMostUpstreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, k := newWatcher(), &sink{resolved: make(map[hub.Reason]int)}
		s := follow.New(follow.Options{Watcher: w, Max: 2})
		s.Feed(k)
		for i := range 10 {
			if err := s.Add(t.Context(), topic(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // the first two take the places
		}
		if begun, open := w.saw(); len(begun) != 2 || open != 2 || s.Stats().Upstreams.Load() != 2 {
			t.Errorf("begun %q, %d open, %d counted", begun, open, s.Stats().Upstreams.Load())
		}
		for i := range 10 {
			refused := s.Refused(fmt.Sprint(i))
			if i < 2 && refused != nil || i >= 2 && !errors.Is(refused, hub.ErrFull) {
				t.Errorf("%d is refused: %v", i, refused)
			}
		}
		if v, err := s.Read(t.Context(), "9", 1, 1); err != nil || v.Snapshot.Seq != 0 {
			t.Errorf("Read: %+v, %v", v, err)
		}
		for i := 1; i < 9; i++ {
			s.Remove(topic(fmt.Sprint(i)))
		}
		time.Sleep(2100 * time.Millisecond)
		synctest.Wait()
		if begun, open := w.saw(); len(begun) != 3 || begun[2] != "9 0-0" || open != 2 {
			t.Errorf("begun %q, %d open", begun, open)
		}
		w.steps <- version(1000, 1)
		w.steps <- version(1000, 1)
		synctest.Wait()
		if err := s.Refused("9"); err != nil {
			t.Errorf("it is refused with a place: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if n := s.Stats().Upstreams.Load(); n != 0 {
			t.Errorf("%d are counted after the end", n)
		}
	})
}
