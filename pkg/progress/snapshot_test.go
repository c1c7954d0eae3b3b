package progress

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// stream numbers the events and chains their checks, as the script does.
func stream(t interface{ Fatal(...any) }, events ...Event) []Event {
	check := FirstCheck
	for i := range events {
		e := &events[i]
		if e.WorkflowID == "" {
			e.WorkflowID = "w"
		}
		if e.Time.IsZero() {
			e.Time = noon.Add(time.Duration(i) * time.Second)
		}
		e.Epoch, e.Seq, e.Check, e.Lost = 0, 0, "", 0
		body, err := e.AppendBody(nil)
		if err != nil {
			t.Fatal(err)
		}
		check = NextCheck(check, body[1:])
		e.Epoch, e.Seq, e.Check = 77, int64(i+1), check
	}
	return events
}

// of gives events the run r of the chain r.
func of(run string, events ...Event) []Event {
	for i := range events {
		events[i].RunID, events[i].Chain = run, run
	}
	return events
}

func step(name string, status Status, attempt int) Event {
	return Event{Type: TypeStep, Step: name, Status: status, Attempt: attempt}
}

func output(step string, attempt int) Event {
	return Event{Type: TypeOutput, Step: step, Attempt: attempt, Data: json.RawMessage(`"x"`)}
}

// row joins values for comparison in a table.
func row(values ...any) string { return strings.TrimSuffix(fmt.Sprintln(values...), "\n") }

func TestFoldRules(t *testing.T) {
	started := Event{Type: TypeStarted, Status: StatusRunning, WorkflowType: "T", Tags: []string{"blue"}}
	queued := Event{Type: TypeStarted, Status: StatusQueued}
	closed := Event{Type: TypeClosed, Status: StatusFailed, Error: "boom"}
	next := func(e Event) Event { e.RunID, e.Chain = "r2", "r"; return e }
	other := func(e Event) Event { e.RunID, e.Chain = "q", "q"; return e }

	tests := []struct {
		name   string
		events []Event
		want   func(s *Snapshot) any
		is     any
	}{
		{"started", of("r", started), func(s *Snapshot) any { return row(s.Status, s.Type, s.Tags, s.StartedAt.Equal(noon), s.FirstSeq, s.V) }, "running T [blue] true 1 1"},
		{"queued", of("r", queued), func(s *Snapshot) any { return s.Status }, StatusQueued},
		{"queued, then running", of("r", queued, started), func(s *Snapshot) any { return s.Status }, StatusRunning},
		{"queued comes late", of("r", started, queued), func(s *Snapshot) any { return s.Status }, StatusRunning},
		{"progress ends the queue", of("r", queued, Event{Type: TypeProgress}), func(s *Snapshot) any { return s.Status }, StatusRunning},
		{"a queued step does not end the queue", of("r", queued, step("a", StatusQueued, 0)), func(s *Snapshot) any { return s.Status }, StatusQueued},
		{"no run at all", []Event{{Type: TypeProgress, Percent: ptr(5.0)}}, func(s *Snapshot) any { return row(s.Status, *s.Percent, s.StartedAt.Equal(noon)) }, "running 5 true"},
		{"progress replaces the whole state",
			of("r", Event{Type: TypeProgress, Percent: ptr(1.0), Current: ptr[int64](1), Total: ptr[int64](2), Message: "m", Step: "s", Attempt: 3}, Event{Type: TypeProgress, Percent: ptr(2.0)}),
			func(s *Snapshot) any {
				return row(*s.Percent, s.Current, s.Total, s.Message, s.Step, s.Attempt)
			}, "2 <nil> <nil>  s 3"},
		{"a log changes nothing but the time", of("r", started, Event{Type: TypeLog, Message: "hello"}), func(s *Snapshot) any { return s.Message + s.UpdatedAt.Sub(noon).String() }, "1s"},
		{"an unknown type changes nothing but the time", of("r", started, Event{Type: "later"}), func(s *Snapshot) any { return string(s.Status) + s.UpdatedAt.Sub(noon).String() }, "running1s"},
		{"a step keeps where it first appeared", of("r", step("a", StatusQueued, 0), step("b", StatusRunning, 1), step("a", StatusRunning, 1)),
			func(s *Snapshot) any {
				return row(s.Steps[0].Name, s.Steps[0].First, s.Steps[0].Seq, s.Steps[1].Name, s.Step)
			}, "a 1 3 b a"},
		{"a step that was queued late", of("r", step("a", StatusRunning, 1), step("a", StatusQueued, 0)), func(s *Snapshot) any { return s.Steps[0].Status }, StatusRunning},
		{"a new attempt begins with nothing", of("r", Event{Type: TypeStep, Step: "a", Status: StatusFailed, Attempt: 1, Percent: ptr(50.0), Error: "e"}, step("a", StatusRunning, 2)),
			func(s *Snapshot) any { return row(s.Steps[0].Percent, s.Steps[0].Error, s.Attempt) }, "<nil>  2"},
		{"output opens", of("r", started, output("a", 1), output("a", 1)), func(s *Snapshot) any { return s.OutputFrom }, int64(2)},
		{"output of another attempt opens anew", of("r", started, output("a", 1), output("a", 2)), func(s *Snapshot) any { return s.OutputFrom }, int64(3)},
		{"the oldest output counts", of("r", started, output("b", 1), output("a", 1)), func(s *Snapshot) any { return s.OutputFrom }, int64(2)},
		{"the step's end closes its output", of("r", output("a", 1), output("b", 1), step("a", StatusCompleted, 1)), func(s *Snapshot) any { return s.OutputFrom }, int64(2)},
		{"a new attempt closes the output", of("r", output("a", 1), step("a", StatusRunning, 2)), func(s *Snapshot) any { return s.OutputFrom }, int64(0)},
		{"the step's own progress does not", of("r", output("a", 1), step("a", StatusRunning, 1)), func(s *Snapshot) any { return s.OutputFrom }, int64(1)},
		{"closed", of("r", started, output("a", 1), closed), func(s *Snapshot) any { return row(s.Status, s.Error, s.Closed(), s.OutputFrom) }, "failed boom true 0"},
		{"the next run of the chain", append(of("r", started, step("a", StatusRunning, 1), Event{Type: TypeProgress, Percent: ptr(9.0)}), next(Event{Type: TypeStarted, Status: StatusRunning})),
			func(s *Snapshot) any {
				return row(s.RunID, s.Chain, s.Type, s.Tags, len(s.Steps), s.Percent, s.StartedAt.Equal(noon))
			}, "r2 r T [blue] 0 <nil> true"},
		{"another chain", append(of("r", started, closed), other(Event{Type: TypeStarted, Status: StatusRunning})),
			func(s *Snapshot) any {
				return row(s.RunID, s.Type, s.Tags, s.Closed(), s.Error, s.StartedAt.Sub(noon))
			}, "q  [] false  2s"},
		{"a run that is first seen by its step", append(of("r", started), next(step("a", StatusRunning, 1))), func(s *Snapshot) any { return row(s.Status, s.RunID, len(s.Steps)) }, "running r2 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Fold(stream(t, tt.events...))
			if err != nil {
				t.Fatal(err)
			}
			if got := tt.want(&s); got != tt.is {
				t.Errorf("got %v, want %v\n%+v", got, tt.is, s)
			}
		})
	}
}

func TestStepsAreBounded(t *testing.T) {
	var events []Event
	for i := range DefaultMaxSteps {
		events = append(events, step(fmt.Sprint(i), StatusRunning, 1))
	}
	events = append(events, step("kept out", StatusRunning, 1), step("7", StatusCompleted, 1), step("3", StatusFailed, 1),
		step("first in", StatusRunning, 1), step("second in", StatusRunning, 1))
	s, err := Fold(stream(t, of("r", events...)...))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, st := range s.Steps {
		names[st.Name] = true
	}
	if len(s.Steps) != DefaultMaxSteps || s.StepsOmitted != 3 {
		t.Errorf("%d steps, %d omitted; want %d and 3", len(s.Steps), s.StepsOmitted, DefaultMaxSteps)
	}
	if names["kept out"] || names["7"] || names["3"] || !names["first in"] || !names["second in"] {
		t.Errorf("the wrong steps left: %v", names)
	}
}

func TestApplyRefusesWhatIsNotNext(t *testing.T) {
	events := stream(t, of("r", step("a", StatusRunning, 1), step("b", StatusRunning, 1), step("c", StatusRunning, 1))...)
	s, err := Fold(events[:2])
	if err != nil {
		t.Fatal(err)
	}
	before := s.Clone()
	foreign := events[2]
	foreign.Epoch++
	for name, e := range map[string]Event{"again": events[1], "before": events[0], "another epoch": foreign, "a hole": {Epoch: 77, Seq: 4}} {
		if err := s.Apply(&e); !errors.Is(err, ErrNotNext) {
			t.Errorf("%s: %v, want ErrNotNext", name, err)
		}
	}
	if diff := cmp.Diff(before, s); diff != "" {
		t.Error("a refused event changed the snapshot:", diff)
	}
}

// anyEvents draws a stream with runs, chains, attempts and more steps than a
// snapshot holds.
func anyEvents(t *rapid.T) []Event {
	n := rapid.IntRange(0, 150).Draw(t, "events")
	names := rapid.IntRange(1, 130).Draw(t, "steps")
	statuses := []Status{StatusQueued, StatusRunning, StatusCompleted, StatusFailed, StatusCanceled, StatusTerminated, StatusTimedOut, StatusUnknown}
	text := rapid.SampledFrom([]string{"", "m", "<größe>\n"})
	count := rapid.Ptr(rapid.Int64Range(-1, maxExact), true)
	percent := rapid.Ptr(rapid.Float64Range(0, 100), true)
	run, chain := 1, 1
	events := make([]Event, n)
	for i := range events {
		if rapid.IntRange(0, 25).Draw(t, "restart") == 0 {
			run++
			if rapid.Bool().Draw(t, "chain") {
				chain = run
			}
		}
		e := &events[i]
		e.RunID, e.Chain = fmt.Sprint(run), fmt.Sprint(chain)
		e.Attempt = rapid.IntRange(0, 2).Draw(t, "attempt")
		e.Step = fmt.Sprint("s", rapid.IntRange(1, names).Draw(t, "step"))
		e.Type = rapid.SampledFrom([]EventType{TypeStarted, TypeProgress, TypeStep, TypeStep, TypeStep, TypeLog, TypeOutput, TypeClosed}).Draw(t, "type")
		e.Message, e.Error = text.Draw(t, "message"), text.Draw(t, "error")
		e.WorkflowType = rapid.SampledFrom([]string{"", "", "T", "U"}).Draw(t, "workflow type")
		if tags := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b"}), 0, 2).Draw(t, "tags"); len(tags) > 0 {
			e.Tags = tags // an empty list is not on the wire
		}
		switch e.Type {
		case TypeStarted:
			e.Status = rapid.SampledFrom(statuses[:2]).Draw(t, "status")
		case TypeStep, TypeProgress:
			if e.Type == TypeStep {
				e.Status = rapid.SampledFrom(statuses).Draw(t, "status")
			} else if rapid.Bool().Draw(t, "no step") {
				e.Step = ""
			}
			e.Percent, e.Current, e.Total = percent.Draw(t, "percent"), count.Draw(t, "current"), count.Draw(t, "total")
		case TypeClosed:
			e.Status = rapid.SampledFrom(statuses[2:]).Draw(t, "status")
		case TypeOutput:
			e.Data = json.RawMessage(`"x"`)
		}
	}
	return stream(t, events...)
}

func TestFoldOfAnyPrefixPlusTheRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := anyEvents(t)
		want, err := Fold(events)
		if err != nil {
			t.Fatal(err)
		}
		cut := rapid.IntRange(0, len(events)).Draw(t, "cut")
		prefix, err := Fold(events[:cut])
		if err != nil {
			t.Fatal(err)
		}
		// A snapshot goes over the wire in between, as it does to a viewer.
		wire, err := json.Marshal(&prefix)
		if err != nil {
			t.Fatal(err)
		}
		var got Snapshot
		if err := json.Unmarshal(wire, &got); err != nil {
			t.Fatal(err)
		}
		for i := range events[cut:] {
			if err := got.Apply(&events[cut+i]); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("cut at %d of %d: %s", cut, len(events), diff)
		}
		if len(got.Steps) > DefaultMaxSteps || len(got.Outputs) > DefaultMaxSteps {
			t.Fatal("the snapshot outgrew its bound")
		}
	})
}
