package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

// The account that the emulator knows, with the token of Twilio's own tests.
const (
	twilioAccount  = "AC0123456789abcdef0123456789abcdef"
	twilioToken    = "12345"
	twilioKey      = "SK0123456789abcdef0123456789abcdef"
	twilioSecret   = "54321"
	twilioNumber   = "+15005550006"
	whatsAppNumber = "whatsapp:+14155238886"
)

// emulator is a running emulator of Twilio, and a proxy in front of it that
// holds every request to Twilio's published description.
type emulator struct {
	url   string // of the emulator, for its simulator
	proxy string // what a client of Twilio takes for Twilio

	mu sync.Mutex
	// cut makes the proxy drop the answers to sends: the message was taken,
	// and nobody is told.
	cut bool
	// held, if set, keeps the answers to sends back until the client has gone,
	// and hears of each.
	held chan<- struct{}
	sent []url.Values // the forms of all sends
	// first is when the first send came.
	first time.Time
}

// startEmulator runs the emulator until the test ends. Messages that come to
// its numbers go to the webhooks under hooks.
func startEmulator(t *testing.T, hooks string) *emulator {
	t.Helper()
	folder := emulatorFolder(t)
	seed := filepath.Join(t.TempDir(), "seed.json")
	text, err := json.Marshal(map[string]any{"twilio": map[string]any{
		"account":  map[string]any{"sid": twilioAccount, "auth_token": twilioToken},
		"api_keys": []any{map[string]any{"sid": twilioKey, "secret": twilioSecret}},
		"phone_numbers": []any{
			map[string]any{"phone_number": twilioNumber, "sms_url": hooks + "/webhooks/twilio/sms"},
			map[string]any{"phone_number": whatsAppNumber, "sms_url": hooks + "/webhooks/twilio/whatsapp"},
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(seed, text, 0o600); err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	_, port, _ := strings.Cut(addr, ":")
	e := &emulator{url: "http://" + addr}
	launch(t, nil, filepath.Join(folder, "node"), filepath.Join(folder, "node_modules/emulate/dist/index.js"),
		"start", "--service", "twilio", "--port", port, "--seed", seed)
	within(t, 30*time.Second, "the emulator", func(ctx context.Context) error {
		return expectStatus(ctx, e.url+"/", http.StatusOK)
	})
	e.proxy = e.startProxy(t)
	return e
}

// emulatorFolder is where scripts/test-servers has put it.
func emulatorFolder(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(cache, "runcast-test", "emulate")
	if _, err := os.Stat(filepath.Join(folder, "installed")); err == nil {
		return folder
	}
	if os.Getenv("RUNCAST_TEST_SKIP_SERVERS") != "" && os.Getenv("CI") != "true" {
		t.Skip("no emulator of Twilio, and RUNCAST_TEST_SKIP_SERVERS is set")
	}
	t.Fatal("no emulator of Twilio: run `make test`, which installs it, or set RUNCAST_TEST_SKIP_SERVERS=1")
	return ""
}

// startProxy serves what a client of Twilio takes for it.
func (e *emulator) startProxy(t *testing.T) string {
	t.Helper()
	target, err := url.Parse(e.url)
	if err != nil {
		t.Fatal(err)
	}
	check := describedRequests(t)
	forward := httputil.NewSingleHostReverseProxy(target)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := check(r, body); err != nil {
			t.Errorf("%s %s is not as Twilio describes it: %v", r.Method, r.URL.Path, err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if r.Method != http.MethodPost {
			forward.ServeHTTP(w, r)
			return
		}
		form, _ := url.ParseQuery(string(body)) // checked already
		e.mu.Lock()
		if len(e.sent) == 0 {
			e.first = time.Now()
		}
		e.sent = append(e.sent, form)
		cut, held := e.cut, e.held
		e.mu.Unlock()
		if !cut && held == nil {
			forward.ServeHTTP(w, r)
			return
		}
		forward.ServeHTTP(httptest.NewRecorder(), r)
		if held != nil {
			held <- struct{}{}
			<-r.Context().Done()
		}
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// sends returns the forms of all sends so far.
func (e *emulator) sends() []url.Values {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.sent)
}

// firstSend returns when the first send came.
func (e *emulator) firstSend() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.first
}

func (e *emulator) hold(held chan<- struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.held = held
}

func (e *emulator) setCut(cut bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cut = cut
}

// describedRequests returns a check of requests against Twilio's description
// of the messages resource, which is a copy of what Twilio publishes.
func describedRequests(t *testing.T) func(*http.Request, []byte) error {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("testdata/twilio_api_v2010_messages.json")
	if err != nil {
		t.Fatal(err)
	}
	// The proxy stands in for the servers that it names.
	doc.Servers = nil
	for _, path := range doc.Paths.Map() {
		path.Servers = nil
		for _, operation := range path.Operations() {
			operation.Servers = nil
			// Basic authentication is the emulator's to check.
			operation.Security = nil
		}
	}
	doc.Security = nil
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return func(r *http.Request, body []byte) error { return checkRequest(router, r, body) }
}

func checkRequest(router routers.Router, r *http.Request, body []byte) error {
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	route, params, err := router.FindRoute(r)
	if err != nil {
		return err
	}
	if user, password, ok := r.BasicAuth(); !ok || user == "" || password == "" {
		return errors.New("it has no basic authentication")
	}
	if err := openapi3filter.ValidateRequest(r.Context(), &openapi3filter.RequestValidationInput{
		Request: r, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}); err != nil {
		return err
	}
	// A schema lets pass what it does not name: a misspelt field would be one
	// that Twilio ignores.
	known := make(map[string]bool)
	for _, p := range route.Operation.Parameters {
		known[p.Value.Name] = p.Value.In == openapi3.ParameterInQuery
	}
	for name := range r.URL.Query() {
		if !known[name] {
			return fmt.Errorf("it has the unknown parameter %s", name)
		}
	}
	if route.Operation.RequestBody == nil {
		return nil
	}
	fields := route.Operation.RequestBody.Value.Content.Get("application/x-www-form-urlencoded").Schema.Value.Properties
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return err
	}
	for name := range form {
		if fields[name] == nil {
			return fmt.Errorf("it has the unknown field %s; known are %v", name, slices.Sorted(maps.Keys(fields)))
		}
	}
	return nil
}

// twilioMessage is what the emulator says of a message.
type twilioMessage struct {
	SID, From, To, Body, Status, Direction string
}

// messages returns the emulator's messages to a number, the oldest first.
func (e *emulator) messages(t *testing.T, to string) []twilioMessage {
	t.Helper()
	var list struct{ Messages []twilioMessage }
	e.do(t, http.MethodGet, "/2010-04-01/Accounts/"+twilioAccount+"/Messages.json?To="+url.QueryEscape(to), nil, &list)
	slices.Reverse(list.Messages)
	return list.Messages
}

// receives simulates that a message comes in, and returns it once the webhook
// has answered.
func (e *emulator) receives(t *testing.T, from, to, text string) twilioMessage {
	t.Helper()
	var m twilioMessage
	e.do(t, http.MethodPost, "/_twilio/simulate/inbound-message", url.Values{"From": {from}, "To": {to}, "Body": {text}}, &m)
	return m
}

// reports simulates what becomes of a message.
func (e *emulator) reports(t *testing.T, sid, status string) {
	t.Helper()
	e.do(t, http.MethodPost, "/_twilio/simulate/message-status", url.Values{"MessageSid": {sid}, "Status": {status}}, nil)
}

func (e *emulator) do(t *testing.T, method, path string, form url.Values, answer any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, e.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(twilioAccount, twilioToken)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 300 {
		t.Fatalf("%s %s: %s %s, %v", method, path, res.Status, text, err)
	}
	if answer != nil {
		if err := json.Unmarshal(text, answer); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
}
