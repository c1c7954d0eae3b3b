package strategies_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/runcast/runcast/internal/choice"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/subscriber/strategies"
)

const half = "default: poll\nT: {poll: 50, update: 50}"

func (s *service) both(id string) {
	for _, w := range []*world{s.poll, s.update} {
		w.reach(id, 1, progress.TypeProgress)
	}
}

// chosen opens a stream of auto and returns its strategy and its cookie.
func (s *service) chosen(t *testing.T, query string, cookie *http.Cookie) (string, *http.Cookie) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	res := s.get(t, "/auto/workflows/w/stream"+query, func(r *http.Request) {
		*r = *r.WithContext(ctx)
		if cookie != nil {
			r.AddCookie(cookie)
		}
	})
	if res.StatusCode != http.StatusOK {
		t.Fatalf("answered %s: %s", res.Status, body(t, res))
	}
	name := res.Header.Get("Runcast-Strategy")
	if cookies := res.Cookies(); len(cookies) > 0 {
		return name, cookies[0]
	}
	return name, nil
}

// A viewer keeps its strategy, by its name or by the cookie that it is given.
func TestAuto(t *testing.T) {
	s := start(t, half)
	s.both("w")
	seen := make(map[string]int)
	for i := range 40 {
		query := fmt.Sprintf("?viewer=v%d", i)
		name, cookie := s.chosen(t, query, nil)
		seen[name]++
		if cookie != nil {
			t.Fatalf("who has a name was given another one: %v", cookie)
		}
		if again, _ := s.chosen(t, query, nil); again != name {
			t.Errorf("viewer %d got %s, then %s", i, name, again)
		}
	}
	if seen["poll"] == 0 || seen["update"] == 0 || seen["poll"]+seen["update"] != 40 {
		t.Errorf("40 viewers were given %v", seen)
	}
	cookies := make(map[string]bool)
	for range 10 {
		name, cookie := s.chosen(t, "", nil)
		if cookie == nil || cookie.Name != "runcast_viewer" || !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" || cookie.MaxAge <= 0 {
			t.Fatalf("the cookie is %+v", cookie)
		}
		cookies[cookie.Value] = true
		for range 2 {
			again, other := s.chosen(t, "", cookie)
			if again != name || other != nil {
				t.Errorf("with its cookie the viewer got %s, not %s, and the cookie %v", again, name, other)
			}
		}
	}
	if len(cookies) != 10 {
		t.Errorf("10 viewers have %d names", len(cookies))
	}
	text := body(t, must(s.Client().Get(s.URL+"/metrics")))
	if !strings.Contains(text, `runcast_strategy_assigned_total{strategy="poll",workflow_type="T"} `) ||
		!strings.Contains(text, `runcast_strategy_assigned_total{strategy="update",workflow_type="T"} `) {
		t.Error("the metrics do not say who was assigned to what")
	}
}

func TestAutoErrors(t *testing.T) {
	answer := fmt.Errorf("workflow %q: %w", "w", progress.ErrNotFound)
	s := start(t, half, func(o *strategies.Options) {
		o.TypeOf = func(_ context.Context, id string) (string, error) {
			if id == "away" {
				return "", errors.New("a secret of the inside")
			}
			return "", answer
		}
	})
	for _, tt := range []struct {
		path   string
		status int
		want   string
	}{
		{"/auto/workflows/w/stream", 404, "not found"},
		{"/auto/workflows/away/stream", 503, "try again"},
		{"/auto/workflows/w/stream?viewer=", 400, "1 to 128"},
		{"/auto/workflows/w/stream?viewer=" + strings.Repeat("x", 129), 400, "129 bytes"},
		{"/auto/workflows/" + strings.Repeat("x", 1001) + "/stream", 400, "1001 bytes"},
	} {
		res := s.get(t, tt.path)
		text := body(t, res)
		if res.StatusCode != tt.status || !strings.Contains(text, tt.want) || strings.Contains(text, "secret") {
			t.Errorf("%.40s: %s %s, want %d and %q", tt.path, res.Status, text, tt.status, tt.want)
		}
	}
}

// Where nothing is split nobody needs a name, and where no type has a rule
// none is asked for.
func TestAutoFixed(t *testing.T) {
	for _, rules := range []string{"default: update", "T: update", "T: {update: 100, poll: 0}"} {
		s := start(t, rules, func(o *strategies.Options) {
			if rules == "default: update" {
				o.TypeOf = func(context.Context, string) (string, error) {
					t.Error("a type was asked for")
					return "", nil
				}
			}
		})
		s.both("w")
		if name, cookie := s.chosen(t, "", nil); name != "update" || cookie != nil {
			t.Errorf("%s: got %s and the cookie %v", rules, name, cookie)
		}
	}
}

// All who come at once share one question for the type, and later ones its
// answer.
func TestAutoAsksOnce(t *testing.T) {
	var asked atomic.Int64
	release := make(chan struct{})
	s := start(t, half, func(o *strategies.Options) {
		o.TypeOf = func(context.Context, string) (string, error) {
			asked.Add(1)
			<-release
			return workflowType, nil
		}
	})
	s.both("w")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { s.chosen(t, "", nil) })
	}
	eventually(t, "somebody asks", func() bool { return asked.Load() > 0 })
	close(release)
	wg.Wait()
	s.chosen(t, "", nil)
	if n := asked.Load(); n != 1 {
		t.Errorf("the type was asked for %d times", n)
	}
}

func TestNew(t *testing.T) {
	rules := choice.Fixed("poll")
	if _, err := strategies.New(strategies.Options{Rules: rules}); err == nil {
		t.Error("no ways were taken")
	}
	s := start(t, "")
	if _, err := strategies.New(strategies.Options{
		Ways: []strategies.Way{{Name: "redis"}}, Rules: rules, Registerer: s.registry,
	}); err == nil || !strings.Contains(err.Error(), "store") {
		t.Errorf("a way without watcher and store: %v", err)
	}
	if _, err := strategies.New(strategies.Options{
		Ways: []strategies.Way{{Name: "poll", Watcher: s.poll}}, Rules: rules, Registerer: s.registry,
	}); err == nil {
		t.Error("metrics were registered twice")
	}
}
