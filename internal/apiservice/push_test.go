package apiservice

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/internal/workerservice"
	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/webhook"
)

const pushSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"

// services runs API and worker, and returns where they are.
func services(t *testing.T) (api, worker string) {
	t.Helper()
	prefix := testenv.Prefix(t)
	redis := settings.Redis{URL: testenv.Redis(t).URL(), Prefix: prefix}
	push := settings.Push{Secrets: []string{pushSecret}, Allow: []string{"127.0.0.1"}}
	env := settings.Env{"TEMPORAL_ADDRESS": testenv.TemporalAddress(t)}
	logger := slog.New(slog.DiscardHandler)
	queue := "push-" + prefix
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	addr, working, ended := make(chan string, 1), make(chan string, 1), make(chan error, 2)
	go func() {
		ended <- Serve(ctx, Config{Addr: "127.0.0.1:0", TaskQueue: queue, MaxBody: 1 << 16, Redis: redis, Push: push}, env, logger, func(a string) { addr <- a })
	}()
	go func() {
		ended <- workerservice.Serve(ctx, workerservice.Config{
			Addr: "127.0.0.1:0", TaskQueue: queue, ReconcileEvery: 10 * time.Second, Redis: redis, Push: push,
		}, env, logger, func(a string) { working <- a })
	}()
	t.Cleanup(func() {
		stop()
		for range 2 {
			if err := <-ended; err != nil {
				t.Errorf("it did not stop in order: %v", err)
			}
		}
	})
	return "http://" + <-addr, "http://" + <-working
}

func call(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// ledgerPath is where a ledger takes webhooks: who has no token is refused.
const ledgerPath = "/hook?token=s3cret"

// ledger is an idempotent receiver: what has come before changes nothing.
type ledger struct {
	mu      sync.Mutex
	down    bool
	arrived map[string]int
	effects []handlers.Post
}

func (l *ledger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	id := ""
	keys, err := webhook.ParseKeys(pushSecret)
	if err == nil {
		keys, err = keys.For("http://" + r.Host + r.URL.Path)
	}
	if err == nil {
		id, err = keys.Verify(r.Header, body)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && r.RequestURI != ledgerPath {
		err = fmt.Errorf("asked for %s", r.RequestURI)
	}
	if err != nil || l.down {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	l.arrived[id]++
	var post handlers.Post
	if l.arrived[id] == 1 && json.Unmarshal(body, &post) == nil {
		l.effects = append(l.effects, post)
	}
}

func deadletters(t *testing.T, api string) []webhook.Letter {
	t.Helper()
	var all []webhook.Letter
	for cursor := ""; ; {
		code, text := call(t, "GET", api+"/v1/deadletters?limit=3&cursor="+cursor, "")
		var page struct {
			DeadLetters []webhook.Letter `json:"deadletters"`
			NextCursor  string           `json:"next_cursor"`
		}
		if err := json.Unmarshal([]byte(text), &page); err != nil || code != 200 || strings.Contains(text, "s3cret") {
			t.Fatalf("%d %s: %v", code, text, err)
		}
		all = append(all, page.DeadLetters...)
		if cursor = page.NextCursor; cursor == "" {
			return all
		}
	}
}

// What an endpoint that is dead was to get can be sent to it once it is well:
// all of it, and nothing twice, although many replay it at once.
func TestDeadEndpointIsReplayed(t *testing.T) {
	api, _ := services(t)
	l := &ledger{down: true, arrived: make(map[string]int)}
	endpoint := httptest.NewServer(l)
	defer endpoint.Close()
	id := "push-" + testenv.Prefix(t)
	code, text := call(t, "POST", api+"/v1/workflows", fmt.Sprintf(`{"type":"ProgressiveWorkflow","id":%q,"input":{"steps":20,"step_ms":20},"push":[%q]}`, id, endpoint.URL+ledgerPath))
	if code != 202 {
		t.Fatalf("%d %s", code, text)
	}
	temporal := testenv.Temporal(t)
	if err := temporal.GetWorkflow(t.Context(), id, "").Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	before := deadletters(t, api)
	// It asked for a pause with its first answer; the others were not sent.
	if len(before) <= 10 || !strings.Contains(before[0].Reason, "paused until") || !strings.Contains(before[len(before)-1].Reason, "503") {
		t.Fatalf("%d letters, the newest %+v, the oldest %+v", len(before), before[0], before[len(before)-1])
	}
	if want := endpoint.URL + "/hook?token=…"; before[0].URL != want {
		t.Errorf("it is to go to %s, shown as %s", want, before[0].URL)
	}
	// While it is dead, nothing is lost by a replay.
	if code, text := call(t, "POST", api+"/v1/deadletters/"+before[0].ID+"/replay", ""); code != http.StatusBadGateway || !strings.Contains(text, "503") {
		t.Errorf("%d %s", code, text)
	}
	l.mu.Lock()
	l.down = false
	l.mu.Unlock()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for _, letter := range before {
				switch code, text := call(t, "POST", api+"/v1/deadletters/"+letter.ID+"/replay", ""); code {
				case http.StatusNoContent, http.StatusConflict, http.StatusNotFound:
				default:
					t.Errorf("%d %s", code, text)
				}
			}
		})
	}
	all.Wait()
	if left := deadletters(t, api); len(left) != 0 {
		t.Errorf("%d are left: %+v", len(left), left)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.effects) != len(before) {
		t.Errorf("%d had an effect, want %d", len(l.effects), len(before))
	}
	for _, letter := range before {
		if n := l.arrived[letter.ID]; n != 1 {
			t.Errorf("%s arrived %d times", letter.ID, n)
		}
	}
	last := 0
	for i, post := range l.effects {
		if post.WorkflowID != id {
			t.Errorf("%+v", post)
		}
		if post.Data.Version > l.effects[last].Data.Version {
			last = i
		}
	}
	if l.effects[last].Data.Returned != progress.StatusCompleted {
		t.Errorf("the newest state is %+v", l.effects[last])
	}
}

func TestPushOverHTTP(t *testing.T) {
	api, _ := services(t)
	for _, tt := range []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"POST", "/v1/workflows", `{"type":"ProgressiveWorkflow","push":["http://169.254.169.254/latest"]}`, 400, "RUNCAST_PUSH_ALLOW"},
		{"POST", "/v1/workflows", `{"type":"ProgressiveWorkflow","push":["http://10.0.0.1/"]}`, 400, "RUNCAST_PUSH_ALLOW"},
		{"POST", "/v1/workflows", `{"type":"ProgressiveWorkflow","push":["https://u:p@receiver.example/"]}`, 400, "user or password"},
		{"POST", "/v1/workflows", `{"type":"ProgressiveWorkflow","push":["receiver.example"]}`, 400, "scheme"},
		{"POST", "/v1/workflows", `{"type":"ProgressiveWorkflow","push":["` + strings.Repeat(`http://127.0.0.1:1","`, 11) + `"]}`, 400, "10 are allowed"},
		{"GET", "/v1/deadletters", "", 200, `"deadletters":[]`},
		{"GET", "/v1/deadletters?limit=0", "", 400, "limit"},
		{"GET", "/v1/deadletters?cursor=x", "", 400, "cursor"},
		{"GET", "/v1/deadletters?limit=1&limit=2", "", 400, "twice"},
		{"GET", "/v1/deadletters?cursor=&cursor=1-a", "", 400, "twice"},
		{"GET", "/v1/deadletters?page=2", "", 400, "page"},
		{"POST", "/v1/deadletters/none/replay", "", 404, "none"},
		{"DELETE", "/v1/deadletters/none", "", 404, "none"},
		{"POST", "/v1/strategies/callback", "{}", 401, "RUNCAST_PUSH_SECRETS"},
		{"GET", "/v1/strategies/callback", "", 405, "POST"},
		{"GET", "/metrics", "", 200, `runcast_callback_refused_total{strategy="unknown"} 1`},
		{"GET", "/metrics", "", 200, `runcast_callback_taken_total{strategy="signal"} 0`},
	} {
		if code, text := call(t, tt.method, api+tt.path, tt.body); code != tt.code || !strings.Contains(text, tt.want) {
			t.Errorf("%s %s %s: %d %s", tt.method, tt.path, tt.body, code, text)
		}
	}
}

func TestCallbackURL(t *testing.T) {
	for _, tt := range []struct{ set, listens, want string }{
		{"", "127.0.0.1:8081", "http://127.0.0.1:8081/v1/strategies/callback"},
		{"", "0.0.0.0:8081", "http://127.0.0.1:8081/v1/strategies/callback"},
		{"", "[::]:8081", "http://127.0.0.1:8081/v1/strategies/callback"},
		{"", "10.1.2.3:8081", "http://10.1.2.3:8081/v1/strategies/callback"},
		{"https://node1.example/api/", "0.0.0.0:8081", "https://node1.example/api/v1/strategies/callback"},
	} {
		addr, err := net.ResolveTCPAddr("tcp", tt.listens)
		if err != nil {
			t.Fatal(err)
		}
		if got := (&Config{CallbackURL: tt.set}).callbackURL(addr); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}
