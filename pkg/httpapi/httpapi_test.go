package httpapi_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/internal/temporalenv"
	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/httpapi"
)

type greetInput struct {
	Name string `json:"name"`
}

// newAPI serves the API; runs wait in a task queue that nobody takes from.
func newAPI(t *testing.T, temporal httpapi.Temporal, change ...func(*httpapi.Options)) *httptest.Server {
	t.Helper()
	o := httpapi.Options{
		Temporal: temporal,
		Types: map[string]httpapi.Type{
			"Greet": {CheckInput: httpapi.CheckInputAs[greetInput]()},
			"Any":   {},
		},
		TaskQueue:      "httpapi-" + t.Name(),
		Namespace:      "default",
		UI:             "https://ui.example/",
		Subscriber:     "https://stream.example/",
		AllowedOrigins: []string{"https://page.example"},
		MaxBody:        1000,
		Logger:         slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, f := range change {
		f(&o)
	}
	h, err := httpapi.New(o)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

type answer struct {
	*http.Response
	body map[string]any
	text string
}

// call sends a request; path is sent as it is written.
func call(t *testing.T, s *httptest.Server, method, path, body string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{Response: res, text: string(text)}
	if strings.Contains(res.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(text, &a.body); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
	return a
}

func TestStart(t *testing.T) {
	// As the program makes its client: by itself the SDK cannot send the ID.
	options, err := temporalenv.Load(nil, settings.Payloads{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	temporal := testenv.TemporalWith(t, options)
	s := newAPI(t, temporal)
	id := "start/ö %2F {1}\n" + t.Name() + time.Now().Format("150405.000000")
	body, _ := json.Marshal(map[string]any{"type": "Greet", "id": id, "input": greetInput{"Ada"}, "tags": []string{"team-a", "b"}})

	a := call(t, s, "POST", "/v1/workflows", string(body))
	run, _ := a.body["run_id"].(string)
	if a.StatusCode != 202 || a.body["workflow_id"] != id || run == "" {
		t.Fatalf("got %d %s", a.StatusCode, a.text)
	}
	path := "/v1/workflows/" + url.PathEscape(id)
	if a.Header.Get("Location") != path {
		t.Errorf("Location is %q, want %q", a.Header.Get("Location"), path)
	}
	if want := "https://stream.example" + path + "/stream?run=" + run; a.body["stream"] != want {
		t.Errorf("stream is %q, want %q", a.body["stream"], want)
	}

	t.Run("what Temporal got", func(t *testing.T) {
		d, err := temporal.DescribeWorkflowExecution(t.Context(), id, run)
		if err != nil {
			t.Fatal(err)
		}
		var tags []string
		memo := d.GetWorkflowExecutionInfo().GetMemo().GetFields()[httpapi.TagsMemo]
		if err := converter.GetDefaultDataConverter().FromPayload(memo, &tags); err != nil || !slices.Equal(tags, []string{"team-a", "b"}) {
			t.Errorf("tags %q, %v", tags, err)
		}
		started, err := temporal.GetWorkflowHistory(t.Context(), id, run, false, 0).Next()
		if err != nil {
			t.Fatal(err)
		}
		var in greetInput
		payloads := started.GetWorkflowExecutionStartedEventAttributes().GetInput()
		if err := converter.GetDefaultDataConverter().FromPayloads(payloads, &in); err != nil || in.Name != "Ada" {
			t.Errorf("input %+v, %v", in, err)
		}
	})

	t.Run("described", func(t *testing.T) {
		a := call(t, s, "GET", path, "")
		want := map[string]any{
			"workflow_id": id, "run_id": run, "first_run_id": run, "type": "Greet", "status": "running",
			"task_queue": "httpapi-TestStart",
			"ui":         "https://ui.example/namespaces/default/workflows/" + url.PathEscape(id) + "/" + run + "/history",
		}
		for name, value := range want {
			if a.body[name] != value {
				t.Errorf("%s is %v, want %v", name, a.body[name], value)
			}
		}
		if a.StatusCode != 200 || a.body["history_length"].(float64) < 1 || a.body["start_time"] == nil || a.body["close_time"] != nil {
			t.Errorf("got %d %s", a.StatusCode, a.text)
		}
	})

	t.Run("taken", func(t *testing.T) {
		a := call(t, s, "POST", "/v1/workflows", string(body))
		if ct := a.Header.Get("Content-Type"); ct != "application/problem+json" {
			t.Errorf("content type %q", ct)
		}
		if a.StatusCode != 409 || a.body["run_id"] != run || a.body["stream"] == nil {
			t.Errorf("got %d %s", a.StatusCode, a.text)
		}
	})

	t.Run("free again once it has ended", func(t *testing.T) {
		if err := temporal.TerminateWorkflow(t.Context(), id, run, "test"); err != nil {
			t.Fatal(err)
		}
		if a := call(t, s, "GET", path, ""); a.body["status"] != "terminated" || a.body["close_time"] == nil {
			t.Errorf("after its end: %s", a.text)
		}
		a := call(t, s, "POST", "/v1/workflows", string(body))
		if a.StatusCode != 202 || a.body["run_id"] == run {
			t.Fatalf("got %d %s", a.StatusCode, a.text)
		}
		if err := temporal.TerminateWorkflow(t.Context(), id, "", "test"); err != nil {
			t.Fatal(err)
		}
	})
}

func TestStartMakesUpAnID(t *testing.T) {
	temporal := testenv.Temporal(t)
	s := newAPI(t, temporal)
	a := call(t, s, "POST", "/v1/workflows", `{"type":"Any"}`)
	b := call(t, s, "POST", "/v1/workflows", `{"type":"Any","input":null}`)
	for _, a := range []answer{a, b} {
		id, _ := a.body["workflow_id"].(string)
		if a.StatusCode != 202 || !strings.HasPrefix(id, "any-") {
			t.Fatalf("got %d %s", a.StatusCode, a.text)
		}
		if err := temporal.TerminateWorkflow(t.Context(), id, "", "test"); err != nil {
			t.Fatal(err)
		}
	}
	if a.body["workflow_id"] == b.body["workflow_id"] {
		t.Error("both have the same ID")
	}
}

// fakeTemporal fails the test if it is asked at all.
type fakeTemporal struct {
	httpapi.Temporal
	t *testing.T
}

func (f fakeTemporal) ExecuteWorkflow(context.Context, client.StartWorkflowOptions, any, ...any) (client.WorkflowRun, error) {
	f.t.Error("Temporal was asked to start what is invalid")
	return nil, context.Canceled
}

func TestBadRequests(t *testing.T) {
	s := newAPI(t, fakeTemporal{t: t})
	const post, jsonType = "/v1/workflows", "application/json"
	for _, tt := range []struct {
		name, method, path, contentType, body string
		status                                int
		says                                  string
	}{
		{"not JSON", "POST", post, jsonType, `{"type":`, 400, "cannot be read"},
		{"empty", "POST", post, jsonType, ``, 400, "empty"},
		{"not UTF-8", "POST", post, jsonType, "{\"type\":\"\xff\"}", 400, "UTF-8"},
		{"two values", "POST", post, jsonType, `{"type":"Any"}{}`, 400, "follows"},
		{"an array", "POST", post, jsonType, `[]`, 400, "cannot be read"},
		{"unknown member", "POST", post, jsonType, `{"type":"Any","di":"x"}`, 400, `"di\"`},
		{"wrong kind", "POST", post, jsonType, `{"type":7}`, 400, "type"},
		{"no type", "POST", post, jsonType, `{"id":"x"}`, 400, `type`},
		{"unknown type", "POST", post, jsonType, `{"type":"Nope"}`, 404, "Any, Greet"},
		{"long unknown type", "POST", post, jsonType, `{"type":"` + strings.Repeat("x", 900) + `"}`, 404, "…"},
		{"bad input", "POST", post, jsonType, `{"type":"Greet","input":{"nam":"x"}}`, 400, "nam"},
		{"input of another kind", "POST", post, jsonType, `{"type":"Greet","input":"x"}`, 400, "input"},
		{"empty tag", "POST", post, jsonType, `{"type":"Any","tags":[""]}`, 400, "tags"},
		{"long tag", "POST", post, jsonType, `{"type":"Any","tags":["` + strings.Repeat("x", 257) + `"]}`, 400, "257"},
		{"many tags", "POST", post, jsonType, `{"type":"Any","tags":["a"` + strings.Repeat(`,"a"`, 32) + `]}`, 400, "33"},
		{"too large", "POST", post, jsonType, `{"type":"Any","input":"` + strings.Repeat("x", 1000) + `"}`, 413, "1000"},
		{"no content type", "POST", post, "", `{"type":"Any"}`, 415, "application/json"},
		{"a form", "POST", post, "application/x-www-form-urlencoded", `type=Any`, 415, "application/json"},
		{"plain text", "POST", post, "text/plain", `{"type":"Any"}`, 415, "application/json"},
		{"wrong method", "DELETE", post, jsonType, ``, 405, "POST"},
		{"wrong method on a run", "POST", post + "/x", jsonType, `{}`, 405, "GET, HEAD"},
		{"wrong method on health", "DELETE", "/livez", jsonType, ``, 405, "GET, HEAD"},
		{"no route", "GET", "/v2", "", ``, 404, "/v2"},
		{"long ID in the path", "GET", post + "/" + strings.Repeat("x", 1001), "", ``, 400, "1001"},
		{"query of a start", "POST", post + "?no_such=1", jsonType, `{"type":"Any"}`, 400, "no_such"},
		{"query of a description", "GET", post + "/x?run=1", "", ``, 400, "run"},
		{"broken query", "GET", post + "/x?a;b", "", ``, 400, "query"},
		{"ID of a directory", "POST", post, jsonType, `{"type":"Any","id":"."}`, 400, "URL"},
		{"ID of the directory above", "POST", post, jsonType, `{"type":"Any","id":".."}`, 400, "URL"},
		{"broken escape of UTF-8", "GET", post + "/%ff", "", ``, 400, "UTF-8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := call(t, s, tt.method, tt.path, tt.body, "Content-Type", tt.contentType)
			if a.StatusCode != tt.status || !strings.Contains(a.text, tt.says) {
				t.Errorf("got %d %s, want %d and %q", a.StatusCode, a.text, tt.status, tt.says)
			}
			if ct := a.Header.Get("Content-Type"); ct != "application/problem+json" {
				t.Errorf("content type %q", ct)
			}
			if tt.status == 405 && a.Header.Get("Allow") != tt.says {
				t.Errorf("Allow is %q, want %q", a.Header.Get("Allow"), tt.says)
			}
		})
	}
	big := newAPI(t, fakeTemporal{t: t}, func(o *httpapi.Options) { o.MaxBody = 0 })
	if a := call(t, big, "POST", post, `{"type":"Any","id":"`+strings.Repeat("x", 1001)+`"}`); a.StatusCode != 400 || !strings.Contains(a.text, "1001") {
		t.Errorf("an ID of 1,001 bytes: got %d %s", a.StatusCode, a.text)
	}
	if a := call(t, big, "POST", post, `{"type":"Any","input":"`+strings.Repeat("x", 64<<10)+`"}`); a.StatusCode != 413 {
		t.Errorf("more than 64 KiB: got %d", a.StatusCode)
	}
	if a := call(t, big, "POST", post, `{"type":"Any","id":"","tags":[],"input":7}`, "Content-Type", "text/json"); a.StatusCode != 415 {
		t.Errorf("text/json: got %d", a.StatusCode)
	}
}

func TestDescribeUnknown(t *testing.T) {
	s := newAPI(t, testenv.Temporal(t))
	a := call(t, s, "GET", "/v1/workflows/no%2Fsuch%20one", "")
	if a.StatusCode != 404 || !strings.Contains(a.text, `no/such one`) || a.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("got %d %s %s", a.StatusCode, a.Header.Get("Content-Type"), a.text)
	}
}

// What trying again does not help is no 503.
func TestNamespaceUnknown(t *testing.T) {
	s := newAPI(t, testenv.TemporalWith(t, client.Options{Namespace: "nowhere", Logger: slog.New(slog.DiscardHandler)}))
	for _, a := range []answer{
		call(t, s, "GET", "/v1/workflows/x", ""),
		call(t, s, "POST", "/v1/workflows", `{"type":"Any"}`),
	} {
		if a.StatusCode != 500 || !strings.Contains(a.text, "TEMPORAL_NAMESPACE") || a.Header.Get("Retry-After") != "" {
			t.Errorf("got %d %s", a.StatusCode, a.text)
		}
	}
}

// Temporal away is said well before a caller of 15 s gives up.
func TestTemporalAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	temporal, err := client.NewLazyClient(client.Options{HostPort: addr, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(temporal.Close)
	s := newAPI(t, temporal, func(o *httpapi.Options) { o.Timeout = time.Second })
	for _, tt := range []struct{ method, path, body string }{
		{"POST", "/v1/workflows", `{"type":"Any","id":"x"}`},
		{"GET", "/v1/workflows/x", ""},
		{"GET", "/readyz", ""},
	} {
		begin := time.Now()
		a := call(t, s, tt.method, tt.path, tt.body)
		if a.StatusCode != 503 || a.body["detail"] == nil || time.Since(begin) > 5*time.Second {
			t.Errorf("%s %s: got %d %s after %v", tt.method, tt.path, a.StatusCode, a.text, time.Since(begin))
		}
	}
	if a := call(t, s, "GET", "/livez", ""); a.StatusCode != 200 {
		t.Errorf("/livez: %d", a.StatusCode)
	}
}

func TestHealthAndMetrics(t *testing.T) {
	s := newAPI(t, testenv.Temporal(t))
	for _, path := range []string{"/livez", "/readyz"} {
		if a := call(t, s, "GET", path, ""); a.StatusCode != 200 {
			t.Errorf("%s: %d %s", path, a.StatusCode, a.text)
		}
	}
	call(t, s, "GET", "/v1/workflows/some-id", "")
	call(t, s, "BREW", "/v1/workflows/some-id", "")
	a := call(t, s, "GET", "/metrics", "")
	for _, want := range []string{`route="/v1/workflows/{id}",status="404"`, `method="other"`} {
		if !strings.Contains(a.text, want) {
			t.Errorf("the metrics lack %s:\n%s", want, a.text)
		}
	}
	if strings.Contains(a.text, "some-id") {
		t.Error("an ID is a label")
	}
}

func TestCORS(t *testing.T) {
	s := newAPI(t, fakeTemporal{t: t})
	preflight := []string{"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type", "Origin"}
	for _, tt := range []struct {
		name   string
		server *httptest.Server
		origin string
		want   string
	}{
		{"allowed", s, "https://page.example", "https://page.example"},
		{"another", s, "https://evil.example", ""},
		{"prefix", s, "https://page.example.evil.example", ""},
		{"none allowed", newAPI(t, fakeTemporal{t: t}, func(o *httpapi.Options) { o.AllowedOrigins = nil }), "https://page.example", ""},
		{"all allowed", newAPI(t, fakeTemporal{t: t}, func(o *httpapi.Options) { o.AllowedOrigins = []string{"*"} }), "https://x.example", "https://x.example"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := call(t, tt.server, "OPTIONS", "/v1/workflows", "", append(preflight, tt.origin)...)
			if got := a.Header.Get("Access-Control-Allow-Origin"); got != tt.want {
				t.Errorf("preflight: allowed origin %q, want %q", got, tt.want)
			}
			if tt.want != "" && (a.StatusCode != 204 || !strings.Contains(a.Header.Get("Access-Control-Allow-Headers"), "Content-Type")) {
				t.Errorf("preflight: got %d %v", a.StatusCode, a.Header)
			}
			if a := call(t, tt.server, "GET", "/livez", "", "Origin", tt.origin); a.Header.Get("Access-Control-Allow-Origin") != tt.want {
				t.Errorf("GET: %v", a.Header)
			}
		})
	}
}

// A foreign page can start nothing, whatever content type it sends; programs,
// the service's own pages and those of allowed origins can.
func TestForeignPages(t *testing.T) {
	s := newAPI(t, fakeTemporal{t: t})
	for _, path := range []string{"/v1/messages", "/v1/workflows", "/v1/reminders", "/webhooks/email"} {
		for _, header := range [][]string{
			{"Origin", "https://evil.example"},
			{"Origin", "null"},
			{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site", "Content-Type", "text/plain"},
			{"Sec-Fetch-Site", "same-site"},
		} {
			a := call(t, s, "POST", path, `{"text":"hi"}`, header...)
			if a.StatusCode != 403 || a.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(a.text, "RUNCAST_ALLOWED_ORIGINS") {
				t.Errorf("%s of %v: got %d %s", path, header, a.StatusCode, a.text)
			}
		}
	}
	all := newAPI(t, fakeTemporal{t: t}, func(o *httpapi.Options) { o.AllowedOrigins = []string{"*"} })
	for _, tt := range []struct {
		s      *httptest.Server
		header []string
	}{
		{s, nil},
		{s, []string{"Origin", s.URL}},
		{s, []string{"Origin", "https://app.example", "Sec-Fetch-Site", "same-origin"}}, // behind a proxy
		{s, []string{"Origin", "https://page.example", "Sec-Fetch-Site", "cross-site"}},
		{all, []string{"Origin", "https://x.example", "Sec-Fetch-Site", "cross-site"}},
	} {
		if a := call(t, tt.s, "POST", "/v1/messages", `{"text":" "}`, tt.header...); a.StatusCode != 400 {
			t.Errorf("%v: got %d %s", tt.header, a.StatusCode, a.text)
		}
	}
}

// HEAD answers as GET does: load balancers ask so.
func TestHead(t *testing.T) {
	s := newAPI(t, fakeTemporal{t: t})
	for path, want := range map[string]int{"/livez": 200, "/metrics": 200, "/v1/workflows": 405} {
		res, err := http.Head(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("HEAD %s: %s, want %d", path, res.Status, want)
		}
	}
}
