package progress

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 123456000, time.UTC)

func ptr[T any](v T) *T { return &v }

func TestAppendBody(t *testing.T) {
	e := Event{
		Epoch: 1, Seq: 2, Check: "01234567", Lost: 3,
		WorkflowID: "order-42", RunID: "r", Chain: "c", Type: TypeStep,
		Time: noon.In(time.FixedZone("", 3600)).Add(789), Status: StatusRunning,
		Percent: ptr(0.0), Step: "a<b>&", Message: "line\nline \xff", Data: json.RawMessage(`{ "a" : "<` + "\xff" + `>" }`),
	}
	got, err := e.AppendBody([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	want := `x{"workflow_id":"order-42","run_id":"r","chain":"c","type":"step","time":"2026-03-04T12:00:00.123456Z",` +
		`"status":"running","percent":0,"step":"a<b>&","message":"line\nline ` + "\uFFFD" + `","data":{"a":"<` + "\uFFFD" + `>"}}`
	if strings.ReplaceAll(string(got), `\ufffd`, "\uFFFD") != want {
		t.Errorf("AppendBody:\n got %s\nwant %s", got, want)
	}
	if bytes.ContainsAny(got, "\r\n") {
		t.Error("the body is not one line")
	}
}

func TestDecodeEventReadsWhatTheScriptMakes(t *testing.T) {
	want := Event{
		WorkflowID: "w", RunID: "r", Chain: "c", Type: TypeProgress, Time: noon,
		Percent: ptr(12.5), Current: ptr[int64](0), Total: ptr[int64](8), Message: "m", Attempt: 2, Tags: []string{"a"},
	}
	body, err := want.AppendBody(nil)
	if err != nil {
		t.Fatal(err)
	}
	wire := `{"epoch":7,"seq":9,"check":"01234567","lost":2,` + string(body[1:])
	got, err := DecodeEvent([]byte(wire))
	if err != nil {
		t.Fatal(err)
	}
	want.Epoch, want.Seq, want.Check, want.Lost = 7, 9, "01234567", 2
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	again, err := json.Marshal(&got)
	if err != nil || string(again) != wire {
		t.Errorf("encoded again: %s, %v; want %s", again, err, wire)
	}
}

func TestDecodeEventRefuses(t *testing.T) {
	for _, wire := range []string{
		"", "{", "null", "[]", `"x"`, `{}`, `{"epoch":1,"seq":1}`, `{"epoch":1,"seq":0,"check":"01234567"}`,
		`{"epoch":1,"seq":1,"check":"0123"}`, `{"epoch":"1","seq":1,"check":"01234567"}`,
		`{"epoch":1,"seq":1,"check":"01234567","time":"yesterday"}`,
	} {
		if _, err := DecodeEvent([]byte(wire)); !errors.Is(err, ErrInvalid) {
			t.Errorf("DecodeEvent(%s): %v, want ErrInvalid", wire, err)
		}
	}
}

func TestValidate(t *testing.T) {
	good := func(change func(*Event)) Event {
		e := Event{WorkflowID: "w", Type: TypeProgress, Time: noon}
		change(&e)
		return e
	}
	tests := []struct {
		name  string
		event Event
		want  string // part of the message; "" for none
	}{
		{"progress", good(func(e *Event) { e.Percent = ptr(100.0) }), ""},
		{"log", good(func(e *Event) { e.Type = TypeLog }), ""},
		{"output", good(func(e *Event) { e.Type, e.Data = TypeOutput, json.RawMessage(`"text"`) }), ""},
		{"step", good(func(e *Event) { e.Type, e.Step, e.Status = TypeStep, "s", StatusQueued }), ""},
		{"closed unknown", good(func(e *Event) { e.Type, e.Status = TypeClosed, StatusUnknown }), ""},
		{"no type", good(func(e *Event) { e.Type = "" }), "unknown event type"},
		{"started without status", good(func(e *Event) { e.Type = TypeStarted }), "needs a status"},
		{"step without name", good(func(e *Event) { e.Type, e.Status = TypeStep, StatusRunning }), "needs a step"},
		{"output without text", good(func(e *Event) { e.Type, e.Data = TypeOutput, json.RawMessage(`{}`) }), "not a JSON string"},
		{"strange status", good(func(e *Event) { e.Status = "happy" }), "unknown status"},
		{"closed but running", good(func(e *Event) { e.Type, e.Status = TypeClosed, StatusRunning }), "cannot have status"},
		{"percent 101", good(func(e *Event) { e.Percent = ptr(101.0) }), "between 0 and 100"},
		{"percent -1", good(func(e *Event) { e.Percent = ptr(-1.0) }), "between 0 and 100"},
		{"no time", good(func(e *Event) { e.Time = time.Time{} }), "no time"},
		{"year 1", good(func(e *Event) { e.Time = time.Time{}.Add(1) }), "in the year 1"},
		{"bad data", good(func(e *Event) { e.Data = json.RawMessage(`{`) }), "not JSON"},
		{"no ID", good(func(e *Event) { e.WorkflowID = "" }), "ID is empty"},
		{"1,001 bytes", good(func(e *Event) { e.WorkflowID = strings.Repeat("é", 500) + "x" }), "1001 bytes"},
		{"1,000 bytes", good(func(e *Event) { e.WorkflowID = strings.Repeat("é", 500) }), ""},
		{"not UTF-8", good(func(e *Event) { e.WorkflowID = "\xff" }), "not UTF-8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.event.Validate()
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Validate: %v, want ErrInvalid with %q", err, tt.want)
			}
		})
	}
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add([]byte(`{"epoch":7,"seq":9,"check":"01234567","workflow_id":"w","type":"log","time":"2026-03-04T12:00:00Z","data":{"a":1}}`))
	f.Add([]byte(`{"epoch":7,"seq":9,"check":"01234567","percent":1e400}`))
	f.Fuzz(func(t *testing.T, wire []byte) {
		e, err := DecodeEvent(wire)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("error %v is not ErrInvalid", err)
			}
			return
		}
		if _, err := ParsePosition(e.Position().String()); err != nil && e.Epoch <= maxExact && e.Seq <= maxExact {
			t.Fatalf("its position does not parse: %v", err)
		}
		if e.Validate() != nil {
			return
		}
		body, err := e.AppendBody(nil)
		if err != nil || !json.Valid(body) || bytes.ContainsAny(body, "\r\n") {
			t.Fatalf("AppendBody of a valid event: %q, %v", body, err)
		}
	})
}
