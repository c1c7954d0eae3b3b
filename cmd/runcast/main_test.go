package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/runcast/runcast/pkg/progress"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(int) { http.DefaultClient.CloseIdleConnections() }))
}

// story is a stream that a server tells, one connection after the other.
type story struct {
	mu       sync.Mutex
	asked    []string // path?query of each request
	chapters []func(w http.ResponseWriter, r *http.Request)
}

func (s *story) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.URL.RequestURI())
	n := len(s.asked) - 1
	s.mu.Unlock()
	if n >= len(s.chapters) {
		http.Error(w, "the story is over", http.StatusTeapot)
		return
	}
	s.chapters[n](w, r)
}

func (s *story) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

// serve starts the story and returns its URL.
func serve(t *testing.T, chapters ...func(http.ResponseWriter, *http.Request)) (*story, string) {
	t.Helper()
	s := &story{chapters: chapters}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, server.URL
}

// sends answers with the text of a stream, then closes it.
func sends(stream string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, stream)
	}
}

func answers(code int, body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		fmt.Fprint(w, body)
	}
}

// sse returns one frame in SSE form.
func sse(kind string, position progress.Position, data any) string {
	text, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("event: %s\nid: %s\ndata: %s\n\n", kind, position, text)
}

// run42 is the stream of a run that begins, steps forward, and ends.
func run42(status progress.Status, why string) []string {
	percent := 50.0
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	events := []progress.Event{
		{Type: progress.TypeStarted, Status: progress.StatusRunning, WorkflowType: "Order"},
		{Type: progress.TypeStep, Step: "pack", Status: progress.StatusRunning, Attempt: 1},
		{Type: progress.TypeProgress, Percent: &percent, Step: "pack", Message: "half"},
		{Type: progress.TypeLog, Step: "pack", Message: "label \x1b[31mred"},
		{Type: progress.TypeOutput, Step: "pack", Attempt: 1, Data: json.RawMessage(`"first line\nsecond"`)},
		{Type: progress.TypeStep, Step: "pack", Status: progress.StatusCompleted, Attempt: 1},
		{Type: progress.TypeClosed, Status: status, Error: why},
	}
	frames := []string{sse("snapshot", progress.Position{}, progress.Snapshot{})}
	for i := range events {
		e := &events[i]
		e.Epoch, e.Seq, e.Check = 1700000000000, int64(i+1), fmt.Sprintf("%08x", i+1)
		e.WorkflowID, e.RunID, e.Chain, e.Time = "order-42", "r1", "r1", at.Add(time.Duration(i)*time.Second)
		kind := "update"
		if e.Type == progress.TypeClosed {
			kind = "end"
		}
		frames = append(frames, sse(kind, e.Position(), e))
	}
	return frames
}

// invoke runs the program as from a shell. A width makes its output a
// terminal.
func invoke(t *testing.T, width int, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, streams{out: &out, err: &errs, width: func() int { return width }})
	return code, out.String(), errs.String()
}

func TestWatchPrintsFramesAsLines(t *testing.T) {
	frames := run42(progress.StatusCompleted, "")
	s, server := serve(t, sends(": hello\n\nretry: 1000\n\n"+strings.Join(frames, ": heartbeat\n\n")))
	code, out, errs := invoke(t, 0, "watch", "order-42", "--subscriber-url", server, "--run", "r1")
	if code != 0 || errs != "" {
		t.Fatalf("exit %d, stderr %q", code, errs)
	}
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(lines) != len(frames) {
		t.Fatalf("%d lines for %d frames:\n%s", len(lines), len(frames), out)
	}
	for i, line := range lines {
		var got struct {
			Event, ID string
			Data      struct{ Seq int64 }
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("line %d: %v: %s", i, err, line)
		}
		want := "update"
		switch i {
		case 0:
			want = "snapshot"
		case len(lines) - 1:
			want = "end"
		}
		if got.Event != want || got.Data.Seq != int64(i) || got.ID == "" {
			t.Errorf("line %d: %s", i, line)
		}
	}
	if got := s.requests(); len(got) != 1 || got[0] != "/v1/workflows/order-42/stream?run=r1" {
		t.Errorf("requests %q", got)
	}
}

func TestWatchExitCode(t *testing.T) {
	for status, want := range map[progress.Status]int{
		progress.StatusCompleted: 0, progress.StatusFailed: 1, progress.StatusCanceled: 1,
		progress.StatusTerminated: 1, progress.StatusTimedOut: 1, progress.StatusUnknown: 1,
	} {
		_, server := serve(t, sends(strings.Join(run42(status, "why"), "")))
		if code, _, errs := invoke(t, 0, "watch", "order-42", "--subscriber-url", server); code != want {
			t.Errorf("%s: exit %d, want %d; stderr %q", status, code, want, errs)
		}
	}
}

func TestWatchResumesWithoutRepeating(t *testing.T) {
	frames := run42(progress.StatusCompleted, "")
	cut := strings.Join(frames[:4], "") + "event: update\nid: 1700000000000-9-00000009\ndata: {\"seq\":" // a frame cut off does not count
	s, server := serve(t,
		sends(cut),
		answers(http.StatusServiceUnavailable, `{"detail":"Redis is away"}`),
		sends(strings.Join(frames[4:], "")),
	)
	code, out, errs := invoke(t, 0, "watch", "order-42", "--subscriber-url", server)
	if code != 0 || strings.Count(out, "\n") != len(frames) {
		t.Fatalf("exit %d, output:\n%s\nstderr %s", code, out, errs)
	}
	want := []string{
		"/v1/workflows/order-42/stream",
		"/v1/workflows/order-42/stream?after=1700000000000-3-00000003",
		"/v1/workflows/order-42/stream?after=1700000000000-3-00000003",
	}
	if got := s.requests(); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("requests\n%q, want\n%q", got, want)
	}
	if !strings.Contains(errs, "trying again") || !strings.Contains(errs, "Redis is away") {
		t.Errorf("stderr %q says nothing of the lost connection", errs)
	}
}

// A run whose end was the position to go on from has nothing to send; how it
// ended is read from its snapshot.
func TestWatchAfterTheEnd(t *testing.T) {
	for status, want := range map[progress.Status]int{progress.StatusCompleted: 0, progress.StatusTerminated: 1} {
		snapshot, err := json.Marshal(progress.Snapshot{Status: status})
		if err != nil {
			t.Fatal(err)
		}
		s, server := serve(t, answers(http.StatusNoContent, ""), answers(http.StatusOK, string(snapshot)))
		code, out, errs := invoke(t, 0, "watch", "order-42", "--subscriber-url", server, "--after", "1700000000000-7-00000007")
		if code != want || out != "" {
			t.Errorf("%s: exit %d, want %d; output %q, stderr %q", status, code, want, out, errs)
		}
		if got := s.requests(); len(got) != 2 || got[1] != "/v1/workflows/order-42" {
			t.Errorf("requests %q", got)
		}
	}
}

func TestWatchRefused(t *testing.T) {
	s, server := serve(t, answers(http.StatusBadRequest, `{"title":"Bad Request","detail":"the ID is too long"}`))
	code, _, errs := invoke(t, 0, "watch", "order-42", "--subscriber-url", server)
	if code != 2 || !strings.Contains(errs, "the ID is too long") {
		t.Errorf("exit %d, stderr %q", code, errs)
	}
	if n := len(s.requests()); n != 1 {
		t.Errorf("%d requests: a refusal was asked again", n)
	}
}

// A strategy is the API's, its positions have no check, and how the run ended
// is the API's to say, too.
func TestWatchByStrategy(t *testing.T) {
	at := progress.Position{Epoch: 1700000000000, Seq: 4}
	snap := sse("snapshot", at, progress.Snapshot{WorkflowID: "a/b", Epoch: at.Epoch, Seq: at.Seq, Status: progress.StatusRunning})
	story, api := serve(t, sends(snap), answers(http.StatusNoContent, ""), answers(200, `{"status":"completed","type":"T"}`))
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"watch", "--strategy", "poll", "--api-url", api, "--after", "1700000000000-3", "a/b"}, streams{&out, &errs, func() int { return 0 }})
	want := []string{
		"/v1/strategies/poll/workflows/a%2Fb/stream?after=1700000000000-3",
		"/v1/strategies/poll/workflows/a%2Fb/stream?after=1700000000000-4",
		"/v1/workflows/a%2Fb",
	}
	if got := story.requests(); code != 0 || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("exit code %d after %q, want 0 after %q; %s", code, got, want, &errs)
	}
	_, api = serve(t, answers(404, `{"detail":"There is no strategy \"telepathy\"; use poll."}`))
	errs.Reset()
	code = run(t.Context(), []string{"watch", "--strategy", "telepathy", "--api-url", api, "w"}, streams{&out, &errs, func() int { return 0 }})
	if code != exitTrouble || !strings.Contains(errs.String(), "the API answered 404") || !strings.Contains(errs.String(), "use poll") {
		t.Errorf("exit code %d, %q", code, errs.String())
	}
}

// Auto would give another strategy to a viewer that it does not know again, and
// positions of one are none of another.
func TestWatchByAutoIsOneViewer(t *testing.T) {
	at := progress.Position{Epoch: 1700000000000, Seq: 4}
	snap := sse("snapshot", at, progress.Snapshot{WorkflowID: "w", Epoch: at.Epoch, Seq: at.Seq, Status: progress.StatusRunning})
	seen := make(map[string]bool)
	for range 2 {
		story, api := serve(t, sends(snap), sends(snap), answers(http.StatusNoContent, ""), answers(200, `{"status":"completed","type":"T"}`))
		if code, _, errs := invoke(t, 0, "watch", "--strategy", "auto", "--api-url", api, "w"); code != 0 {
			t.Fatalf("exit code %d, %s", code, errs)
		}
		streams := story.requests()[:3]
		viewers := make(map[string]bool)
		for _, asked := range streams {
			u, err := url.Parse(asked)
			if err != nil {
				t.Fatal(err)
			}
			viewers[u.Query().Get("viewer")] = true
			seen[u.Query().Get("viewer")] = true
		}
		if len(viewers) != 1 || viewers[""] {
			t.Errorf("the viewers of %q", streams)
		}
	}
	if len(seen) != 2 {
		t.Errorf("two who watch are %d viewers", len(seen))
	}
}

func TestWatchUsage(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for _, tt := range []struct {
		args []string
		says string
	}{
		{[]string{"watch"}, "<id>"},
		{[]string{"watch", ""}, "empty"},
		{[]string{"watch", strings.Repeat("x", 1001)}, "1001 bytes"},
		{[]string{"watch", "a", "--after", "5"}, "--after"},
		{[]string{"watch", "a", "--subscriber-url", "localhost:8080"}, "RUNCAST_SUBSCRIBER_URL"},
		{[]string{"watch", "a", "--subscriber-url", gone.URL}, "cannot reach the subscriber at " + gone.URL},
		{[]string{"wach", "a"}, "wach"},
	} {
		code, out, errs := invoke(t, 0, tt.args...)
		if code != exitTrouble || !strings.Contains(errs, tt.says) {
			t.Errorf("%q: exit %d, stderr %q, want %d and %q", tt.args, code, errs, exitTrouble, tt.says)
		}
		if out != "" {
			t.Errorf("%q: stdout %q", tt.args, out)
		}
	}
}

func TestWatchTakesTheURLFromTheEnvironment(t *testing.T) {
	s, server := serve(t, sends(strings.Join(run42(progress.StatusCompleted, ""), "")))
	t.Setenv("RUNCAST_SUBSCRIBER_URL", server+"/behind/proxy/")
	if code, _, errs := invoke(t, 0, "watch", "a/b c%2F?#ü"); code != 0 {
		t.Errorf("exit %d, stderr %q", code, errs)
	}
	want := "/behind/proxy/v1/workflows/" + url.PathEscape("a/b c%2F?#ü") + "/stream"
	if got := s.requests(); len(got) != 1 || got[0] != want {
		t.Errorf("requests %q, want %q", got, want)
	}
}

func TestWatchRefusesMisspeltVariables(t *testing.T) {
	s, server := serve(t, sends(strings.Join(run42(progress.StatusCompleted, ""), "")))
	t.Setenv("RUNCAST_TTL_CLOSED", "24h") // of a service
	t.Setenv("RUNCAST_SUBSCRIBER_ULR", server)
	code, _, errs := invoke(t, 0, "watch", "a")
	if code != exitTrouble || !strings.Contains(errs, "RUNCAST_SUBSCRIBER_ULR;") || !strings.Contains(errs, "RUNCAST_SUBSCRIBER_URL") {
		t.Errorf("exit %d, stderr %q", code, errs)
	}
	if code, _, errs := invoke(t, 0, "version"); code != 0 {
		t.Errorf("version: exit %d, stderr %q", code, errs)
	}
	if len(s.requests()) > 0 {
		t.Error("it asked all the same")
	}
}

// A subscriber that has just been started may not be ready: it is asked again,
// for a while, and no earlier than it asks for.
func TestFollowerWaitsForABusySubscriber(t *testing.T) {
	answer := func(code int, after, body string) *http.Response {
		return &http.Response{
			StatusCode: code, Status: fmt.Sprintf("%d %s", code, http.StatusText(code)),
			Header: http.Header{"Retry-After": {after}}, Body: io.NopCloser(strings.NewReader(body)),
		}
	}
	stream := strings.Join(run42(progress.StatusCompleted, ""), "")
	for _, tt := range []struct {
		name   string
		busy   int // answers until there is a stream
		after  string
		asked  int
		err    string
		atMost time.Duration
	}{
		{"at once", 0, "", 1, "", 0},
		{"after some", 3, "", 4, "", 3 * time.Second},
		{"as it asked for", 2, "5", 3, "", 14 * time.Second},
		{"a day is too long", 1, "86400", 2, "", longestWait},
		{"never", 1000, "", 0, "gave up after 30s: the subscriber answered 503", firstWithin + longestWait},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base, err := url.Parse("http://subscriber")
				if err != nil {
					t.Fatal(err)
				}
				asked := 0
				f := &follower{base: base, workflow: "order-42", note: func(string, ...any) {}}
				f.client = &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
					if asked++; asked <= tt.busy {
						return answer(http.StatusServiceUnavailable, tt.after, `{"detail":"too many viewers"}`), nil
					}
					return answer(http.StatusOK, "", stream), nil
				})}
				frames := make(chan frame, 100)
				start := time.Now()
				err = f.frames(t.Context(), frames)
				if took := time.Since(start); took > tt.atMost {
					t.Errorf("it took %v, want at most %v", took, tt.atMost)
				}
				if tt.err != "" {
					if err == nil || !strings.Contains(err.Error(), tt.err) || time.Since(start) < firstWithin {
						t.Errorf("after %v: %v, want %q", time.Since(start), err, tt.err)
					}
					return
				}
				if err != nil || asked != tt.asked || len(frames) == 0 {
					t.Errorf("asked %d times, want %d; %d frames; error %v", asked, tt.asked, len(frames), err)
				}
				if after, _ := time.ParseDuration(tt.after + "s"); after <= longestWait && time.Since(start) < time.Duration(tt.busy)*after {
					t.Errorf("asked %d times within %v, though it should wait %v each time", asked, time.Since(start), after)
				}
			})
		})
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		sends(run42(progress.StatusCompleted, "")[0])(w, r)
		w.(http.Flusher).Flush()
		cancel()
		<-r.Context().Done()
	})
	var out, errs bytes.Buffer
	code := run(ctx, []string{"watch", "order-42", "--subscriber-url", server}, streams{&out, &errs, func() int { return 0 }})
	if code != exitInterrupted || errs.Len() > 0 {
		t.Errorf("exit %d, stderr %q", code, errs.String())
	}
}

// pipe is a server in the same bubble as its client.
type silentBody struct{ ctx context.Context }

func (b silentBody) Read([]byte) (int, error) { <-b.ctx.Done(); return 0, b.ctx.Err() }
func (silentBody) Close() error               { return nil }

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestFollowerLeavesASilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		base, err := url.Parse("http://subscriber")
		if err != nil {
			t.Fatal(err)
		}
		var asked []time.Duration
		var notes []string
		start := time.Now()
		f := &follower{base: base, workflow: "w", note: func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }}
		f.client = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			asked = append(asked, time.Since(start))
			if len(asked) == 4 {
				cancel()
			}
			return &http.Response{StatusCode: http.StatusOK, Body: silentBody{r.Context()}}, nil
		})}
		if err := f.frames(ctx, make(chan frame)); err == nil {
			t.Error("no error after the context ended")
		}
		if len(asked) != 4 || len(notes) != 3 || !strings.Contains(notes[0], "silent") {
			t.Fatalf("asked at %v, notes %q", asked, notes)
		}
		for i := 1; i < len(asked); i++ {
			if gap := asked[i] - asked[i-1]; gap < silence || gap > silence+longestWait {
				t.Errorf("request %d came %v after the one before", i+1, gap)
			}
		}
	})
}

func TestHealth(t *testing.T) {
	_, well := serve(t, answers(http.StatusOK, "ok"))
	if code, _, errs := invoke(t, 0, "health", well+"/readyz"); code != 0 {
		t.Errorf("exit %d, stderr %q", code, errs)
	}
	_, ill := serve(t, answers(http.StatusServiceUnavailable, `{"detail":"Redis is away"}`))
	if code, _, errs := invoke(t, 0, "health", ill+"/readyz"); code != 1 || !strings.Contains(errs, "Redis is away") {
		t.Errorf("exit %d, stderr %q", code, errs)
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	if code, _, errs := invoke(t, 0, "health", gone.URL); code != 1 || !strings.Contains(errs, "not healthy") {
		t.Errorf("exit %d, stderr %q", code, errs)
	}
}

func TestVersionAndHelp(t *testing.T) {
	if code, out, _ := invoke(t, 0, "version"); code != 0 || !strings.HasPrefix(out, "runcast ") {
		t.Errorf("exit %d, %q", code, out)
	}
	for _, args := range [][]string{nil, {"--help"}, {"watch", "--help"}} {
		code, out, errs := invoke(t, 0, args...)
		if code != 0 || !strings.Contains(out+errs, "watch") {
			t.Errorf("%q: exit %d, %q %q", args, code, out, errs)
		}
	}
	if _, out, _ := invoke(t, 0, "watch", "--help"); !strings.Contains(out, "RUNCAST_SUBSCRIBER_URL") {
		t.Errorf("the help does not name the variable:\n%s", out)
	}
}
