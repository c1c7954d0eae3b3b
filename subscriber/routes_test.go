package subscriber_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/subscriber"
)

func TestProblems(t *testing.T) {
	n := start(t, func(o *subscriber.Options) { o.Config.MaxTopics = 3 })
	newRun(t, n.store, "w", "run").log("1")
	long := strings.Repeat("x", 1001)
	for _, tt := range []struct {
		method, path string
		status       int
		detail       string
	}{
		{"GET", "/v1/workflows/none", 404, "not found"},
		{"GET", "/v1/workflows/none/events", 404, "not found"},
		{"GET", "/v1/nothing", 404, "/v1/nothing"},
		{"GET", "/nothing", 404, "/nothing"},
		{"GET", "/v1/workflows/" + long, 400, "1000"},
		{"GET", "/v1/workflows/" + long + "/stream", 400, "1000"},
		{"GET", "/v1/workflows/" + long + "/events", 400, "1000"},
		{"GET", "/v1/workflows/%FF", 400, "UTF-8"},
		{"GET", "/v1/workflows/w/events?after=x", 400, "bad position"},
		{"GET", "/v1/workflows/w/events?after=1-1-abcdefab", 410, "another epoch"},
		{"GET", "/v1/workflows/w/events?limit=0", 400, "limit"},
		{"GET", "/v1/workflows/w/events?limit=x", 400, "limit"},
		{"GET", "/v1/workflows/w/stream?mode=fast", 400, "fast"},
		{"GET", "/v1/workflows?status=happy", 400, "happy"},
		{"GET", "/v1/workflows?limit=100000", 400, "limit"},
		{"GET", "/v1/workflows?cursor=%2F%2F", 400, "cursor"},
		{"GET", "/v1/stream", 400, "workflow="},
		{"GET", "/v1/stream?workflow=", 400, "empty"},
		{"GET", "/v1/stream?tag=", 400, "tag"},
		{"GET", "/v1/stream?workflow=a&workflow=b&workflow=c&tag=d", 400, "it takes 3"},
		{"GET", "/v1/workflows/w/ws", 426, "ws://"},
		{"GET", "/v1/ws", 426, "ws://"},
		{"POST", "/v1/workflows", 405, "use GET"},
		{"DELETE", "/v1/workflows/w", 405, "use GET"},
		{"PUT", "/v1/workflows/w/stream", 405, "use GET"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, n.url+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		var p struct {
			Status        int
			Title, Detail string
		}
		if err := json.Unmarshal(body, &p); err != nil {
			t.Errorf("%s %.60s: %s %q", tt.method, tt.path, res.Status, body)
			continue
		}
		if res.StatusCode != tt.status || p.Status != tt.status || p.Title == "" || !strings.Contains(p.Detail, tt.detail) ||
			res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %.60s: %s %+v; want %d with %q", tt.method, tt.path, res.Status, p, tt.status, tt.detail)
		}
		if tt.status == 405 && !strings.HasPrefix(res.Header.Get("Allow"), "GET") {
			t.Errorf("%s %s: Allow %q", tt.method, tt.path, res.Header.Get("Allow"))
		}
	}
}

// What keeps proxies and browsers from keeping, collecting or guessing is on
// every stream, however it is carried.
func TestStreamHeaders(t *testing.T) {
	n := start(t)
	plain := &http.Client{Transport: new(http.Transport)}
	defer plain.CloseIdleConnections()
	secure, h1, h2 := overTLS(t, n)
	for _, tt := range []struct {
		name, url string
		client    *http.Client
		proto     int
	}{
		{"plain", n.url, plain, 1}, {"TLS", secure, h1, 1}, {"HTTP/2", secure, h2, 2},
	} {
		for _, path := range []string{"/v1/workflows/w/stream", "/v1/stream?workflow=w&tag=a", "/v1/stream?tag=a"} {
			t.Run(tt.name+path, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				res, err := request(ctx, tt.client, tt.url+path)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = res.Body.Close() }()
				c := &sseClient{res: res, lines: bufio.NewReader(res.Body), cancel: cancel, many: strings.HasPrefix(path, "/v1/stream")}
				expect(t, c, "snapshot")
				for name, want := range map[string]string{
					"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no",
					"X-Content-Type-Options": "nosniff", "Content-Type": "text/event-stream",
					"Content-Length": "", "Content-Encoding": "",
				} {
					if got := res.Header.Get(name); got != want {
						t.Errorf("%s: %q, want %q", name, got, want)
					}
				}
				if res.ProtoMajor != tt.proto || res.Header.Get("Date") == "" {
					t.Errorf("protocol %s, Date %q", res.Proto, res.Header.Get("Date"))
				}
				if c.retry != "1000" {
					t.Errorf("retry: %q", c.retry)
				}
			})
		}
	}
}

// IDs are percent-decoded once, from the path as it was sent.
func TestIDsInPaths(t *testing.T) {
	n := start(t)
	for _, id := range []string{
		"a/b", "a b", "{a}", "a%2Fb", "a%b", "ä/ö ü", "line\nbreak", "a+b", "a?b#c", "..", "a//b/", `"quoted"\`, strings.Repeat("/", 200),
	} {
		pos := newRun(t, n.store, id, "run").log("x")
		path := "/v1/workflows/" + url.PathEscape(id)
		if id == ".." {
			path = "/v1/workflows/%2E%2E"
		}
		c := n.sse(t, path+"/stream")
		if f := expect(t, c, "snapshot"); f.ID != pos.String() || f.snapshot(t).WorkflowID != id {
			t.Errorf("%q: snapshot %s of %q", id, f.ID, f.snapshot(t).WorkflowID)
		}
		d := n.ws(t, path+"/ws")
		if f := expect(t, d, "snapshot"); f.ID != pos.String() {
			t.Errorf("%q: snapshot %s", id, f.ID)
		}
		m := n.sse(t, "/v1/stream?workflow="+url.QueryEscape(id))
		if f := expect(t, m, "snapshot"); f.ID != pos.String() || f.Topic["workflow"] != id {
			t.Errorf("%q: snapshot %s of %v", id, f.ID, f.Topic)
		}
		res, _ := get(t, n.url+path)
		var s progress.Snapshot
		if err := json.NewDecoder(res.Body).Decode(&s); err != nil || s.WorkflowID != id {
			t.Errorf("%q: GET %s: %q, %v", id, res.Status, s.WorkflowID, err)
		}
	}
}

func TestSnapshotETag(t *testing.T) {
	n := start(t)
	r := newRun(t, n.store, "w", "run")
	pos := r.log("1")
	path := n.url + "/v1/workflows/w"
	res, _ := get(t, path)
	tag := res.Header.Get("ETag")
	if tag != `"`+pos.String()+`"` {
		t.Errorf("ETag %s", tag)
	}
	for header, want := range map[string]int{tag: 304, "W/" + tag: 304, `"x", ` + tag: 304, `"x"`: 200} {
		if res, _ := get(t, path, "If-None-Match", header); res.StatusCode != want {
			t.Errorf("If-None-Match %s: %s", header, res.Status)
		}
	}
	r.log("2")
	if res, _ := get(t, path, "If-None-Match", tag); res.StatusCode != 200 {
		t.Errorf("after a change: %s", res.Status)
	}
}

func TestEventsInPages(t *testing.T) {
	n := start(t)
	r := newRun(t, n.store, "w", "run")
	for range 25 {
		r.log("x")
	}
	after, seq := "", int64(0)
	for pages := 1; ; pages++ {
		res, _ := get(t, n.url+"/v1/workflows/w/events?limit=10&after="+after)
		var page struct {
			Events   []progress.Event
			FirstSeq int64 `json:"first_seq"`
			Next     string
			More     bool
		}
		if err := json.NewDecoder(res.Body).Decode(&page); err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			if seq++; e.Seq != seq {
				t.Fatalf("seq %d, want %d", e.Seq, seq)
			}
		}
		if page.FirstSeq != 1 || page.More != (pages < 3) {
			t.Errorf("page %d: %+v", pages, page)
		}
		after = page.Next
		if pages == 4 {
			if len(page.Events) != 0 || seq != 25 {
				t.Errorf("the last page has %d events, seq %d", len(page.Events), seq)
			}
			break
		}
	}
}

func TestList(t *testing.T) {
	n := start(t)
	for _, id := range []string{"a", "b", "c"} {
		newRun(t, n.store, id, "run").addWith(progress.TypeStarted, func(e *progress.Event) { e.WorkflowType = "T" })
	}
	newRun(t, n.store, "d", "run").add(progress.TypeClosed)
	var all []string
	cursor := ""
	for range 5 {
		res, _ := get(t, n.url+"/v1/workflows?status=running&type=T&limit=2&cursor="+url.QueryEscape(cursor))
		var page struct {
			Workflows  []progress.Summary
			NextCursor *string `json:"next_cursor"`
		}
		if err := json.NewDecoder(res.Body).Decode(&page); err != nil || page.NextCursor == nil || page.Workflows == nil {
			t.Fatalf("%s: %+v, %v", res.Status, page, err)
		}
		for _, s := range page.Workflows {
			all = append(all, s.WorkflowID)
		}
		if cursor = *page.NextCursor; cursor == "" {
			break
		}
	}
	if strings.Join(all, "") != "cba" {
		t.Errorf("listed %q", all)
	}
}

func TestOrigins(t *testing.T) {
	n := start(t, func(o *subscriber.Options) { o.Config.AllowedOrigins = []string{"https://app.example"} })
	handshake := []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="}
	for origin, want := range map[string]struct {
		allow string
		ws    int
	}{
		"https://app.example":  {"https://app.example", 101},
		"https://evil.example": {"", 403},
		n.url:                  {"", 101},
		"null":                 {"", 403},
	} {
		res, cancel := get(t, n.url+"/v1/workflows/w/stream", "Origin", origin)
		if got := res.Header.Get("Access-Control-Allow-Origin"); got != want.allow {
			t.Errorf("%s: allow %q", origin, got)
		}
		cancel()
		res, cancel = get(t, n.url+"/v1/workflows/w/ws", append([]string{"Origin", origin}, handshake...)...)
		if res.StatusCode != want.ws {
			t.Errorf("%s: WebSocket %s", origin, res.Status)
		}
		cancel()
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodOptions, n.url+"/v1/workflows/w/stream", nil)
	req.Header.Set("Origin", "https://app.example")
	req.Header.Set("Access-Control-Request-Method", "GET")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != 204 || !strings.Contains(res.Header.Get("Access-Control-Allow-Headers"), "Last-Event-ID") {
		t.Errorf("preflight: %s %v", res.Status, res.Header)
	}
}

func TestPageAndHealth(t *testing.T) {
	n := start(t, func(o *subscriber.Options) {
		o.Config.Linger = time.Millisecond
		o.Page = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "page") })
	})
	for path, want := range map[string]string{"/": "page", "/runcast.js": "page", "/livez": "ok\n", "/readyz": "ready\n"} {
		res, _ := get(t, n.url+path)
		if body, _ := io.ReadAll(res.Body); res.StatusCode != 200 || string(body) != want {
			t.Errorf("GET %s: %s %q", path, res.Status, body)
		}
	}
	c := n.sse(t, "/v1/workflows/w/stream?after=x")
	expect(t, c, "gap")
	expect(t, c, "snapshot")
	newRun(t, n.store, "w", "run").log("1")
	expect(t, c, "update")
	res, _ := get(t, n.url+"/metrics")
	body, _ := io.ReadAll(res.Body)
	for _, want := range []string{
		`runcast_subscriber_viewers{transport="sse"} 1`,
		`runcast_subscriber_gaps_total{reason="bad_position"} 1`, `runcast_subscriber_deliveries_total 3`,
		`runcast_subscriber_closes_total{reason="slow"} 0`, `runcast_subscriber_resumes_total 0`,
	} {
		if !strings.Contains(string(body), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	// What /readyz opened is gone soon.
	eventually(t, "one topic", func() bool { return metric(t, n, "topics") == 1 })
}

// The subscriber knows no Temporal.
func TestNoTemporal(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "go.temporal.io/") {
			t.Errorf("depends on %s", line)
		}
	}
	out, err = exec.CommandContext(t.Context(), "go", "list", "-deps", "./hub").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "redis") || strings.HasPrefix(line, "net/http") {
			t.Errorf("the hub depends on %s", line)
		}
	}
}
