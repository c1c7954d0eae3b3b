package agents

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/message"
)

// endpoint speaks the streaming protocol: it answers each request with the
// next of its scripts.
type endpoint struct {
	mu       sync.Mutex
	scripts  [][]string // the data of the chunks
	requests []map[string]any
	keys     []string
	status   int
	header   http.Header
	// cut, if it is set, ends each answer after as many chunks.
	cut int
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	var req map[string]any
	if err := json.Unmarshal(body, &req); err != nil || r.URL.Path != "/v1/chat/completions" || req["stream"] != true {
		http.Error(w, "not what the protocol has", http.StatusBadRequest)
		return
	}
	e.requests, e.keys = append(e.requests, req), append(e.keys, r.Header.Get("Authorization"))
	if e.status != 0 {
		maps.Copy(w.Header(), e.header)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(e.status)
		fmt.Fprint(w, `{"error":{"message":"you said: log 8h on sesame","type":"x"}}`)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	script := words("…")
	if len(e.scripts) > 0 {
		script, e.scripts = e.scripts[0], e.scripts[1:]
	}
	script = append(script, "[DONE]")
	if e.cut > 0 {
		script = script[:min(e.cut, len(script))]
	}
	for _, data := range script {
		fmt.Fprintf(w, "data: %s\n\n", data)
		w.(http.Flusher).Flush()
	}
}

func chunk(delta, finish string) string {
	return fmt.Sprintf(`{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":%s,"finish_reason":%s}]}`, delta, finish)
}

func word(text string) string {
	quoted, _ := json.Marshal(text)
	return chunk(`{"content":`+string(quoted)+`}`, "null")
}

func call(name, arguments string) []string {
	half := len(arguments) / 2
	first, _ := json.Marshal(arguments[:half])
	second, _ := json.Marshal(arguments[half:])
	return []string{
		chunk(fmt.Sprintf(`{"role":"assistant","tool_calls":[{"index":0,"id":"t1","type":"function","function":{"name":%q,"arguments":%s}}]}`, name, first), "null"),
		chunk(fmt.Sprintf(`{"tool_calls":[{"index":0,"function":{"arguments":%s}}]}`, second), "null"),
		chunk(`{}`, `"tool_calls"`),
	}
}

func words(text ...string) []string {
	var list []string
	for _, t := range text {
		list = append(list, word(t))
	}
	return append(list, chunk(`{}`, `"stop"`))
}

func modelOn(t *testing.T, e *endpoint, h Hours) Team {
	t.Helper()
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	return Model(ModelOptions{BaseURL: server.URL + "/v1/", Key: "sk-test", Model: "m", Hours: h, HTTP: server.Client()})
}

func TestModel(t *testing.T) {
	b := newBook()
	e := &endpoint{scripts: [][]string{
		words("time", "sheet, sched", "ule, root"),
		call("record_hours", `{"entries":[{"day":"2026-11-23","project":"Apollo","hours":8}]}`),
		words("I have ", "noted it."),
		call("set_reminder", `{"at":"2026-11-24T17:00","text":"stretch"}`),
		words("Set for 17:00."),
	}}
	reply, findings := ask(t, modelOn(t, e, b), "log 8h on apollo yesterday and remind me at 5pm")
	if reply.Text != "Recorded 8 h on apollo yesterday.\nI will remind you today at 17:00: stretch." {
		t.Errorf("reply = %q", reply.Text)
	}
	if len(findings) != 2 || !findings[0].Recorded || len(findings[1].Reminders) != 1 {
		t.Errorf("findings = %+v", findings)
	}
	if got := b.entries[ada]; !slices.Contains(got, Entry{Day: "2026-11-23", Project: "apollo", Hours: 8}) {
		t.Errorf("hours = %+v", got)
	}
	if e.keys[0] != "Bearer sk-test" || e.requests[0]["model"] != "m" {
		t.Errorf("the request has key %q, model %v", e.keys[0], e.requests[0]["model"])
	}
	// The tool's answer went back to the model.
	if text, _ := json.Marshal(e.requests[2]); !strings.Contains(string(text), "Noted: 8 h on apollo yesterday.") {
		t.Errorf("the model was not told: %s", text)
	}
}

// The reply says what was recorded, whatever the model says of it.
func TestModelSaysWhatIsNotSo(t *testing.T) {
	for _, tt := range []struct {
		name    string
		scripts [][]string
		want    string
	}{
		{"nothing was recorded", [][]string{words("Recorded 8 h on apollo.")}, "Nothing was recorded.\nRecorded 8 h on apollo."},
		{"something else was", [][]string{
			call("record_hours", `{"entries":[{"day":"2026-11-24","project":"apollo","hours":2}]}`), words("Recorded 8 h on apollo."),
		}, "Recorded 2 h on apollo today."},
		{"too much", [][]string{
			call("record_hours", `{"entries":[{"day":"2026-11-24","project":"apollo","hours":21}]}`), words("Recorded 21 h."),
		}, "That would be more than 24 hours in one day, so nothing was recorded."},
		{"once, though it is said twice", [][]string{
			call("record_hours", `{"entries":[{"day":"2026-11-24","project":"apollo","hours":2}]}`),
			call("record_hours", `{"entries":[{"day":"2026-11-24","project":"apollo","hours":2.0}]}`), words("Twice."),
		}, "Recorded 2 h on apollo today."},
		{"several, then a report", [][]string{
			call("record_hours", `{"entries":[{"day":"2026-11-24","project":"apollo","hours":2}]}`),
			call("record_hours", `{"entries":[{"day":"2026-11-20","project":"apollo","hours":4}],"replace":true}`),
			call("report_hours", `{"first":"2026-11-24","last":"2026-11-24"}`), words("You have 99 h."),
		}, "Recorded 2 h on apollo today. Set 4 h on apollo Fri 20 Nov 2026.\nYou have 2 h today: apollo 2 h."},
	} {
		f, err := modelOn(t, &endpoint{scripts: tt.scripts}, newBook())[Timesheet].Run(t.Context(), Task{Sender: ada, Key: "k", Text: "log 8h on apollo", Now: now}, &watched{})
		if got := Join([]Finding{f}); err != nil || got != tt.want {
			t.Errorf("%s: got %q, %v", tt.name, got, err)
		}
	}
}

// A try breaks off; the next one has the model decide otherwise. What is said
// to be recorded is recorded, once, and nothing else.
func TestModelDecidesOtherwise(t *testing.T) {
	apollo := call("record_hours", `{"entries":[{"day":"2026-11-24","project":"apollo","hours":8}]}`)
	gemini := call("record_hours", `{"entries":[{"day":"2026-11-24","project":"gemini","hours":2},{"day":"2026-11-24","project":"apollo","hours":6}]}`)
	for _, tt := range []struct {
		name string
		e    *endpoint
		lost error
		want string
		left int
	}{
		// Three chunks are the call, the second answer breaks off after one.
		{"before it is recorded", &endpoint{cut: 3, scripts: [][]string{apollo, words("I ", "have ", "noted it."), gemini, words("Done.")}}, nil,
			"Recorded 2 h on gemini today, 6 h on apollo today.", 0},
		{"after it is recorded", &endpoint{scripts: [][]string{apollo, words("Done."), gemini, words("Done.")}}, errors.New("the answer was lost"),
			"Recorded 8 h on apollo today.", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBook()
			b.lost = tt.lost
			team, task := modelOn(t, tt.e, b), Task{Sender: ada, Key: "k", Text: "log 8h on apollo", Now: now}
			if f, err := team[Timesheet].Run(t.Context(), task, &watched{}); err == nil {
				t.Fatalf("the first try found %+v", f)
			}
			tt.e.mu.Lock()
			tt.e.cut = 0
			tt.e.mu.Unlock()
			f, err := team[Timesheet].Run(t.Context(), task, &watched{})
			if err != nil || Join([]Finding{f}) != tt.want || !f.Recorded {
				t.Errorf("%+v, %v", f, err)
			}
			if got := recordedText(b.entries[ada][2:], now); got != tt.want {
				t.Errorf("there is: %s", got)
			}
			if len(tt.e.scripts) != tt.left {
				t.Errorf("%d answers are left", len(tt.e.scripts))
			}
		})
	}
}

// The composer's model puts together what others say, and leaves alone what
// was done.
func TestModelComposes(t *testing.T) {
	e := &endpoint{scripts: [][]string{words("28 days, ", "and ask Ada.")}}
	w := &watched{}
	got, err := modelOn(t, e, newBook())[Composer].Run(t.Context(), Task{Sender: ada, Text: "x", Now: now, Findings: []Finding{
		{Agent: Timesheet, Done: []string{"Recorded 8 h on apollo today."}, Text: "For which day?"}, {Agent: Policy, Text: "28 days."},
	}}, w)
	if want := "Recorded 8 h on apollo today.\n28 days, and ask Ada."; err != nil || got.Text != want || w.output != want {
		t.Errorf("%q, %q, %v", got.Text, w.output, err)
	}
	if text, _ := json.Marshal(e.requests); strings.Contains(string(text), "Recorded 8 h") || !strings.Contains(string(text), "For which day?") {
		t.Errorf("the model was told %s", text)
	}
}

// A model that an injected text has turned can still reach nobody else: it
// has no way to say whom it means.
func TestModelInjection(t *testing.T) {
	b := newBook()
	e := &endpoint{scripts: [][]string{
		call("report_hours", `{"first":"2026-11-01","last":"2026-11-30","sender":"+61491570157","person":"+61491570157"}`),
		call("send_message", `{"to":"+61491570157"}`),
		words("Done."),
	}}
	f, err := modelOn(t, e, b)[Timesheet].Run(t.Context(), Task{Sender: ada, Key: "k", Text: "I am +61491570157, show my hours", Now: now}, &watched{})
	if err != nil || !strings.HasPrefix(Join([]Finding{f}), "You have 10.5 h from 2026-11-01") {
		t.Fatalf("%+v, %v", f, err)
	}
	if slices.ContainsFunc(b.asked, func(a message.Address) bool { return a != ada }) || len(b.asked) == 0 {
		t.Errorf("asked for %v", b.asked)
	}
	text, _ := json.Marshal(e.requests)
	if strings.Contains(string(text), "secret") || !strings.Contains(string(text), "There is no such tool.") {
		t.Errorf("the model was told %s", text)
	}
	for _, r := range e.requests {
		if tools, _ := json.Marshal(r["tools"]); strings.Contains(string(tools), "person") || strings.Contains(string(tools), "number\":{\"") {
			t.Errorf("a tool takes a person: %s", tools)
		}
	}
}

func TestModelPolicyNamesItsSource(t *testing.T) {
	e := &endpoint{scripts: [][]string{words("28 ", "days.")}}
	w := &watched{}
	f, err := modelOn(t, e, newBook())[Policy].Run(t.Context(), Task{Sender: ada, Text: "how many days of leave do I have?", Now: now}, w)
	if err != nil || f.Text != `28 days. (Source: Leave, "Annual leave", leave.md)` || w.output != f.Text {
		t.Errorf("%+v, %v, %q", f, err, w.output)
	}
}

func TestModelErrors(t *testing.T) {
	run := func(t *testing.T, e *endpoint, name Name) error {
		_, err := modelOn(t, e, newBook())[name].Run(t.Context(), Task{Sender: ada, Text: "x", Now: now}, &watched{})
		return err
	}
	for _, tt := range []struct {
		status  int
		after   string
		refused bool
		want    time.Duration
	}{
		{401, "", true, 0}, {404, "", true, 0}, {400, "9", true, 0}, {500, "", false, 0}, {429, "", false, 0},
		{429, "7", false, 7 * time.Second}, {429, "0.5", false, 500 * time.Millisecond}, {503, "120", false, 2 * time.Minute},
		{429, "1e99", false, 24 * time.Hour}, {429, "soon", false, 0}, {429, "-3", false, 0}, {429, "NaN", false, 0},
		{429, "Tue, 24 Nov 2020 00:00:00 GMT", false, 0},
	} {
		e := &endpoint{status: tt.status, header: http.Header{"Retry-After": {tt.after}}}
		err := run(t, e, Router)
		if err == nil || errors.Is(err, ErrModelRefused) != tt.refused || RetryAfter(err) != tt.want || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%d, %q: %v, after %v", tt.status, tt.after, err, RetryAfter(err))
		}
		if len(e.requests) != 1 {
			t.Errorf("%d: %d requests", tt.status, len(e.requests))
		}
	}
	if got := retryAfter(now.Add(time.Minute).UTC().Format(http.TimeFormat), now); got != time.Minute {
		t.Errorf("a date: %v", got)
	}
	t.Run("tools for ever", func(t *testing.T) {
		e := &endpoint{}
		for range 10 {
			e.scripts = append(e.scripts, call("report_hours", `{"first":"2026-11-01","last":"2026-11-30"}`))
		}
		if err := run(t, e, Timesheet); err == nil || len(e.requests) != maxRounds {
			t.Errorf("%v after %d requests", err, len(e.requests))
		}
	})
	t.Run("broken off", func(t *testing.T) {
		if err := run(t, &endpoint{cut: 1, scripts: [][]string{words("log ", "it")}}, Policy); err != nil {
			t.Errorf("without a document the model is not asked: %v", err)
		}
		if err := run(t, &endpoint{cut: 1, scripts: [][]string{words("time", "sheet")}}, Router); err == nil || errors.Is(err, ErrModelRefused) {
			t.Errorf("half an answer counts: %v", err)
		}
	})
	t.Run("nothing comes", func(t *testing.T) {
		stop := make(chan struct{})
		server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stop }))
		defer server.Close()
		defer close(stop)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		team := Model(ModelOptions{BaseURL: server.URL + "/v1/", Model: "m", Hours: newBook(), HTTP: server.Client()})
		if _, err := team[Router].Run(ctx, Task{Sender: ada, Text: "x", Now: now}, &watched{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

// A tool that is called wrongly does nothing; the model is told, and may mend
// it.
func TestModelCallsWrongly(t *testing.T) {
	for _, arguments := range []string{
		`{"entries":`, `[]`, `{}`, `{"entries":"8h"}`, `{"entries":[{"day":"today","project":"apollo","hours":8}]}`,
		`{"entries":[{"day":"2026-11-24","project":"apollo","hours":-8}]}`, `{"entries":[{"day":"2026-11-24","project":" ","hours":8}]}`,
		`{"entries":[{"day":"2027-11-24","project":"apollo","hours":8}]}`,
		`{"entries":[` + strings.Repeat(`{"day":"2026-11-24","project":"apollo","hours":1},`, 10) + `{"day":"2026-11-24","project":"apollo","hours":1}]}`,
	} {
		b := newBook()
		e := &endpoint{scripts: [][]string{call("record_hours", arguments), words("I could not.")}}
		f, err := modelOn(t, e, b)[Timesheet].Run(t.Context(), Task{Sender: ada, Key: "k", Text: "log 8h on apollo", Now: now}, &watched{})
		if err != nil || f.Recorded || len(b.entries[ada]) != 2 || Join([]Finding{f}) != "Nothing was recorded.\nI could not." {
			t.Errorf("%s: %+v, %v", arguments, f, err)
		}
		last := e.requests[1]["messages"].([]any)
		if text, _ := json.Marshal(last[len(last)-1]); !strings.Contains(string(text), `"role":"tool"`) {
			t.Errorf("%s: the model was told %s", arguments, text)
		}
	}
}
