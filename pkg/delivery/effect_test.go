package delivery

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/webhook"
)

// ledger is a receiver as docs/push.md wants it. What it does it does before it
// answers, and its answer may be lost.
type ledger struct {
	*httptest.Server
	// answer and refuse may be nil: what is refused has no effect.
	answer func(post handlers.Post, w http.ResponseWriter)
	refuse func(post handlers.Post) bool

	mu      sync.Mutex
	arrived []string // IDs
	effects []handlers.Post
}

func takeEffects(t *testing.T, l *ledger) *ledger {
	t.Helper()
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		id, err := verify(t, r, body)
		var post handlers.Post
		if err == nil {
			err = json.Unmarshal(body, &post)
		}
		if err != nil {
			t.Error(err)
		}
		if l.refuse != nil && l.refuse(post) {
			w.WriteHeader(http.StatusConflict)
			return
		}
		l.take(id, post)
		if l.answer != nil {
			l.answer(post, w)
		}
	}))
	t.Cleanup(l.Close)
	return l
}

func (l *ledger) take(id string, post handlers.Post) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := slices.Contains(l.arrived, id)
	l.arrived = append(l.arrived, id)
	newest := int64(0)
	if len(l.effects) > 0 {
		newest = l.effects[len(l.effects)-1].Data.Version
	}
	if !known && post.Data.Version > newest {
		l.effects = append(l.effects, post)
	}
}

// heard returns the IDs that came, and the versions that had an effect.
func (l *ledger) heard() (ids []string, versions []int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, post := range l.effects {
		versions = append(versions, post.Data.Version)
	}
	return slices.Clone(l.arrived), versions
}

// replayAll replays the letters as the API does, the oldest first, and returns
// how many were not taken.
func (r *runs) replayAll(s *webhook.Sender) (untaken int) {
	r.t.Helper()
	list := r.list()
	slices.Reverse(list)
	for _, letter := range list {
		err := r.letters.Replay(r.t.Context(), s, letter.ID)
		if refused := (*webhook.Error)(nil); errors.As(err, &refused) {
			untaken++
		} else if err != nil {
			r.t.Fatal(err)
		}
	}
	return untaken
}

// A receiver that does what it is told and then fails, or hangs up, is told
// again, by retries and by replays that may fail likewise: always under the
// same ID, so that it does nothing twice, and nothing is lost.
func TestReplayHasNoSecondEffect(t *testing.T) {
	for name, fail := range map[string]func(w http.ResponseWriter){
		"an error": func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
		"hung up":  func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRuns(t)
			var well atomic.Bool
			s := takeEffects(t, &ledger{answer: func(post handlers.Post, w http.ResponseWriter) {
				// The end is tried three times within 3 s.
				if !well.Load() && post.Data.Returned != "" {
					fail(w)
				}
			}})
			run := r.start(s.URL)
			eventually(t, "first push", func() bool { ids, _ := s.heard(); return len(ids) == 1 })
			r.signal(run, "count", 0)
			if err := run.Get(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			list := r.list()
			ids, versions := s.heard()
			if len(list) != 1 || list[0].Attempts != 3 || len(ids) != 4 || !slices.Equal(versions, []int64{1, 2}) {
				t.Fatalf("after the run: letters %+v, arrivals %q, effects %v", list, ids, versions)
			}
			if n := r.replayAll(sender(t)); n != 1 {
				t.Errorf("%d are not taken while it fails, want 1", n)
			}
			if list = r.list(); len(list) != 1 || list[0].Attempts != 4 {
				t.Errorf("it fails while it is told again: %+v", list)
			}
			well.Store(true)
			if n := r.replayAll(sender(t)); n != 0 || len(r.list()) != 0 {
				t.Errorf("%d are not taken once it is well; left: %+v", n, r.list())
			}
			ids, versions = s.heard()
			if len(ids) != 6 || !slices.Equal(versions, []int64{1, 2}) {
				t.Errorf("arrivals %q, effects %v", ids, versions)
			}
			for _, id := range ids[1:] {
				if id != list[0].ID {
					t.Errorf("the end came as %q, and is letter %q", ids[1:], list[0].ID)
				}
			}
			if last := s.effects[len(s.effects)-1]; last.Data.Returned != progress.StatusCompleted {
				t.Errorf("the last effect is %+v", last)
			}
			r.replays(run)
		})
	}
}

// A letter that is replayed once the receiver has newer states is taken, and
// changes nothing.
func TestLateLetterChangesNothing(t *testing.T) {
	r := newRuns(t)
	var well atomic.Bool
	s := takeEffects(t, &ledger{refuse: func(post handlers.Post) bool { return !well.Load() && post.Data.Version == 1 }})
	run := r.start(s.URL)
	eventually(t, "dead letter", func() bool { return len(r.list()) == 1 })
	r.signal(run, "count", 1)
	eventually(t, "newer state", func() bool { _, versions := s.heard(); return len(versions) == 1 })
	r.signal(run, "count", 0)
	if err := run.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, versions := s.heard(); !slices.Equal(versions, []int64{2, 3}) {
		t.Fatalf("effects %v", versions)
	}
	late := r.list()[0].ID
	well.Store(true)
	if n := r.replayAll(sender(t)); n != 0 || len(r.list()) != 0 {
		t.Errorf("%d are not taken; left: %+v", n, r.list())
	}
	if ids, versions := s.heard(); len(ids) != 3 || ids[2] != late || !slices.Equal(versions, []int64{2, 3}) {
		t.Errorf("arrivals %q, effects %v", ids, versions)
	}
	r.replays(run)
}
