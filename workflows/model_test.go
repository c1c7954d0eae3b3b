package workflows_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/agents"
	"github.com/runcast/runcast/pkg/progress"
)

// endpoint speaks OpenAI's streaming protocol: each request of an agent, whom
// its first words tell, is answered by the next of the agent's answers, and
// by the last of them for ever.
type endpoint struct {
	mu      sync.Mutex
	answers map[string][]func(http.ResponseWriter)
	asked   map[string][]time.Time
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var req struct{ Messages []struct{ Content any } }
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil || len(req.Messages) == 0 {
		http.Error(w, "not what the protocol has", http.StatusBadRequest)
		return
	}
	system := fmt.Sprint(req.Messages[0].Content)
	e.mu.Lock()
	defer e.mu.Unlock()
	for begin, answers := range e.answers {
		if strings.HasPrefix(system, begin) {
			e.asked[begin] = append(e.asked[begin], time.Now())
			answers[min(len(e.asked[begin]), len(answers))-1](w)
			return
		}
	}
	http.Error(w, "an agent that the test does not know", http.StatusBadRequest)
}

// How the prompts of agents begin.
const (
	toRouter    = "You name what"
	toTimesheet = "You keep the timesheet"
	toComposer  = "Write the reply"
)

func chunks(w http.ResponseWriter, deltas ...string) {
	w.Header().Set("Content-Type", "text/event-stream")
	for _, delta := range deltas {
		fmt.Fprintf(w, `data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,%s}]}`+"\n\n", delta)
		w.(http.Flusher).Flush()
	}
}

const stop, useTool = `"delta":{},"finish_reason":"stop"`, `"delta":{},"finish_reason":"tool_calls"`

func word(text string) string {
	quoted, _ := json.Marshal(text)
	return `"delta":{"content":` + string(quoted) + `},"finish_reason":null`
}

func words(text ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for _, t := range text {
			chunks(w, word(t))
		}
		chunks(w, stop)
		fmt.Fprint(w, "data: [DONE]\n\n")
	}
}

func recordHours(project string, hours int) func(http.ResponseWriter) {
	arguments, _ := json.Marshal(fmt.Sprintf(`{"entries":[{"day":%q,"project":%q,"hours":%d}]}`, time.Now().UTC().Format(time.DateOnly), project, hours))
	return func(w http.ResponseWriter) {
		chunks(w, fmt.Sprintf(`"delta":{"role":"assistant","tool_calls":[{"index":0,"id":"t1","type":"function","function":{"name":"record_hours","arguments":%s}}]},"finish_reason":null`, arguments), useTool)
		fmt.Fprint(w, "data: [DONE]\n\n")
	}
}

func refuse(status int, header ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprint(w, `{"error":{"message":"not now"}}`)
	}
}

// askModel has the message answered by a model.
func askModel(t *testing.T, answers map[string][]func(http.ResponseWriter)) (*office, *endpoint) {
	t.Helper()
	e := &endpoint{answers: answers, asked: make(map[string][]time.Time)}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	return newOffice(t, func(o *office) {
		o.m.Team = agents.Model(agents.ModelOptions{BaseURL: server.URL + "/v1/", Key: "k", Model: "m", Hours: o.store, HTTP: server.Client()})
	}), e
}

// The model's tokens show as they come. When it breaks off and decides
// otherwise in the next try, the reply says what was recorded, and that is
// what the last try wanted.
func TestModelBreaksOff(t *testing.T) {
	o, e := askModel(t, map[string][]func(http.ResponseWriter){
		toRouter: {refuse(http.StatusTooManyRequests, "Retry-After", "2"), words("timesheet")},
		toTimesheet: {
			recordHours("apollo", 8), func(w http.ResponseWriter) { chunks(w, word("I have ")) },
			recordHours("gemini", 2), words("That ", "is ", "it."),
		},
	})
	run := o.converse(o.inbound("log my work"))
	var result struct{ Reply string }
	if err := o.get(run, &result); err != nil || result.Reply != "Recorded 2 h on gemini today." {
		t.Errorf("%+v, %v", result, err)
	}
	today := time.Now().UTC().Format(time.DateOnly)
	if got, err := o.store.Between(t.Context(), ada, today, today); err != nil || !slices.Equal(got, []agents.Entry{{Day: today, Project: "gemini", Hours: 2}}) {
		t.Errorf("hours = %+v, %v", got, err)
	}
	if got := o.sent(); !slices.Equal(got, []string{result.Reply}) {
		t.Errorf("sent %q", got)
	}
	if asked := e.asked[toRouter]; len(asked) != 2 || asked[1].Sub(asked[0]) < 1900*time.Millisecond {
		t.Errorf("the endpoint, which wanted 2 s, was asked at %v", asked)
	}
	outputs := map[int]string{}
	for _, event := range o.events(run.GetID()) {
		if event.Type == progress.TypeOutput && event.Step == "Timesheet agent" {
			outputs[event.Attempt] += pieceOf(t, event)
		}
	}
	if outputs[1] != "I have " || outputs[2] != "That is it." {
		t.Errorf("the tokens of each attempt: %v", outputs)
	}
}

// A model that is not to be had fails each agent once, and the sender is told
// so.
func TestModelRefuses(t *testing.T) {
	o, e := askModel(t, map[string][]func(http.ResponseWriter){
		toRouter: {refuse(http.StatusUnauthorized)}, toComposer: {refuse(http.StatusUnauthorized)},
	})
	if got := o.ask("hello"); !got.Sent || !strings.Contains(got.Reply, "does not work right now") {
		t.Errorf("%+v", got)
	}
	if len(e.asked[toRouter]) != 1 || len(e.asked[toComposer]) != 1 {
		t.Errorf("asked %v", e.asked)
	}
}
