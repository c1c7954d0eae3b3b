package test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/subscriber/page"
)

// telling is a subscriber whose streams a test writes by hand, to show the
// page what a healthy one seldom sends. Each connection gets the next answer;
// the last one repeats.
type telling struct {
	http.Handler
	mu      sync.Mutex
	answers []string // SSE text; "nothing" is 204, other words are a refusal
	asked   []string // positions that the connections came with
	lists   int      // readings of the list
}

func newTelling(t *testing.T, answers ...string) (*telling, string) {
	t.Helper()
	s := &telling{answers: answers}
	mux := http.NewServeMux()
	mux.Handle("/", page.Handler(page.Config{}))
	mux.HandleFunc("GET /v1/workflows", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		s.lists++
		s.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"workflows":[],"next_cursor":""}`)
	})
	mux.HandleFunc("GET /v1/workflows/{id}/stream", s.stream)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return s, server.URL
}

func (s *telling) stream(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	position := r.Header.Get("Last-Event-ID")
	if position == "" {
		position = r.URL.Query().Get("after")
	}
	s.asked = append(s.asked, position)
	answer := s.answers[min(len(s.asked), len(s.answers))-1]
	s.mu.Unlock()
	if answer == "nothing" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if !strings.Contains(answer, "\n") {
		http.Error(w, answer, http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, "retry: 50\n\n"+answer)
}

func (s *telling) positions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

func (s *telling) readings() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lists
}

func sse(kind string, seq int64, data any) string {
	text, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	id := ""
	if seq > 0 {
		id = fmt.Sprintf("id: 1700000000000-%d-%08x\n", seq, seq)
	}
	return fmt.Sprintf("event: %s\n%sdata: %s\n\n", kind, id, text)
}

func snapshotFrame(seq int64, percent float64) string {
	return sse("snapshot", seq, progress.Snapshot{
		V: 1, WorkflowID: "w", Epoch: 1700000000000, Seq: seq, Check: fmt.Sprintf("%08x", seq),
		RunID: "r", Chain: "r", Type: "Order", Status: progress.StatusRunning, Percent: &percent,
		StartedAt: time.Now(), UpdatedAt: time.Now(),
	})
}

func eventFrame(kind string, seq int64, e progress.Event) string {
	e.Epoch, e.Seq, e.Check = 1700000000000, seq, fmt.Sprintf("%08x", seq)
	e.WorkflowID, e.RunID, e.Chain, e.Time = "w", "r", "r", time.Now()
	return sse(kind, seq, e)
}

func percentEvent(percent float64) progress.Event {
	return progress.Event{Type: progress.TypeProgress, Percent: &percent}
}

const panelPercent = `document.querySelector("#detail-bar").getAttribute("aria-valuenow")`

// A gap is said out loud, with its reason, and the page goes on from the
// snapshot behind it to the end.
func TestPageShowsGaps(t *testing.T) {
	_, url := newTelling(t,
		snapshotFrame(3, 10)+
			sse("gap", 0, map[string]string{"from": "1700000000000-3-00000003", "to": "1700000000000-9-00000009", "reason": "trimmed"})+
			snapshotFrame(9, 60)+
			eventFrame("update", 10, progress.Event{Type: progress.TypeLog, Message: "after the gap", Lost: 3})+
			eventFrame("end", 11, progress.Event{Type: progress.TypeClosed, Status: progress.StatusTerminated, Error: "by an operator"}))
	ctx := browser(t)
	if err := chromedp.Do(ctx, chromedp.Navigate(url+"/#run=w")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, 10*time.Second, "the end", `document.querySelector("#detail-status").textContent === "Terminated"`)
	shown := eval[map[string]string](t, ctx, `({
		gap: document.querySelector("#detail-gaps").textContent,
		error: document.querySelector("#detail-error").textContent,
		log: document.querySelector("#log").textContent,
		percent: `+panelPercent+`,
		link: document.querySelector("#detail-link").dataset.state,
	})`)
	for name, want := range map[string]string{
		"gap": "no longer held", "error": "by an operator", "log": "after the gap", "percent": "60", "link": "ended",
	} {
		if !strings.Contains(shown[name], want) {
			t.Errorf("%s is %q, want %q", name, shown[name], want)
		}
	}
	for _, want := range []string{"1700000000000-3-00000003", "1700000000000-9-00000009"} {
		if !strings.Contains(shown["gap"], want) {
			t.Errorf("the gap %q does not name %s", shown["gap"], want)
		}
	}
	if !strings.Contains(shown["log"], "3 earlier events") {
		t.Errorf("the log %q does not say that events were lost", shown["log"])
	}
}

// The browser itself goes on after a stream that ends in the middle; after an
// answer that is no stream it gives up, and the page does not. However often
// it is refused, it goes on where it was: from the beginning it would miss
// what was logged meanwhile.
func TestPageComesBackAfterARefusal(t *testing.T) {
	rest := eventFrame("update", 5, progress.Event{Type: progress.TypeLog, Message: "said meanwhile"}) +
		eventFrame("end", 6, progress.Event{Type: progress.TypeClosed, Status: progress.StatusCompleted})
	s, url := newTelling(t,
		snapshotFrame(3, 10)+eventFrame("update", 4, percentEvent(20)),
		"away", "away", "away", rest)
	ctx := browser(t)
	if err := chromedp.Do(ctx, chromedp.Navigate(url+"/#run=w")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, 30*time.Second, "the end", `document.querySelector("#detail-status").textContent === "Completed"`)
	got := s.positions()
	if len(got) < 5 || got[0] != "" {
		t.Fatalf("the connections came with the positions %q", got)
	}
	for _, position := range got[1:] {
		if position != "1700000000000-4-00000004" {
			t.Errorf("the connections came with the positions %q", got)
			break
		}
	}
	if log := eval[string](t, ctx, `document.querySelector("#log").textContent`); !strings.Contains(log, "said meanwhile") {
		t.Errorf("the log is %q", log)
	}
}

// Who comes with the position of an end is told that nothing follows, and
// then shown how it ended.
func TestPageAtTheEnd(t *testing.T) {
	s, url := newTelling(t, "nothing", "nothing",
		snapshotFrame(6, 50)+eventFrame("end", 7, progress.Event{Type: progress.TypeClosed, Status: progress.StatusFailed}))
	ctx := browser(t)
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		t.Fatal(err)
	}
	status := eval[string](t, ctx, `import("/runcast.js").then(({ follow }) => new Promise((done) => {
		follow("/v1/workflows/w/stream", { onEnd: (event) => done(event.status) }, { after: "1700000000000-7-00000007" });
	}))`)
	if status != "failed" {
		t.Errorf("it ended as %q", status)
	}
	got := s.positions()
	if len(got) != 3 || got[0] != "1700000000000-7-00000007" || got[2] != "" {
		t.Errorf("the connections came with the positions %q", got)
	}
}

// A frame that does not follow the one before is never shown: the stream is
// read anew.
func TestPageReadsAnewWhatDoesNotFollow(t *testing.T) {
	s, url := newTelling(t,
		snapshotFrame(3, 10)+eventFrame("update", 5, percentEvent(99)),
		snapshotFrame(6, 50)+eventFrame("update", 7, percentEvent(70))+": and on\n\n"+
			eventFrame("end", 8, progress.Event{Type: progress.TypeClosed, Status: progress.StatusFailed, Error: "no"}))
	ctx := browser(t)
	if err := chromedp.Do(ctx, chromedp.Navigate(url+"/#run=w")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, 20*time.Second, "the end", `document.querySelector("#detail-status").textContent === "Failed"`)
	if percent := eval[string](t, ctx, panelPercent); percent != "70" {
		t.Errorf("the bar stands at %s, want 70", percent)
	}
	if got := s.positions(); len(got) != 2 || got[1] != "" {
		t.Errorf("the connections came with the positions %q; the second should begin anew", got)
	}
}

// A page that nobody looks at asks for nothing.
func TestPageRestsWhileHidden(t *testing.T) {
	s, url := newTelling(t, snapshotFrame(3, 10))
	ctx := browser(t)
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		t.Fatal(err)
	}
	setHidden := func(hidden bool) {
		t.Helper()
		eval[bool](t, ctx, fmt.Sprintf(`(() => {
			Object.defineProperty(document, "hidden", { configurable: true, get: () => %v });
			document.dispatchEvent(new Event("visibilitychange"));
			return true;
		})()`, hidden))
	}
	within(t, 10*time.Second, "two readings of the list", func(context.Context) error { return atLeast(s.readings(), 2) })
	setHidden(true)
	before := s.readings()
	// Longer than two rounds of a page that is looked at.
	eval[bool](t, ctx, `new Promise((done) => setTimeout(() => done(true), 5000))`)
	if after := s.readings(); after > before+1 { // one may have been under way
		t.Errorf("the list was read %d times while nobody looked", after-before)
	}
	before = s.readings()
	setHidden(false)
	within(t, time.Second, "a reading at once", func(context.Context) error { return atLeast(s.readings(), before+1) })
}

func atLeast(got, want int) error {
	if got < want {
		return fmt.Errorf("%d, want at least %d", got, want)
	}
	return nil
}
