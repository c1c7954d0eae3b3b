package progress

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// EventType says what kind of fact an event is, and with it how readers may
// treat it: state may be replaced by newer state, records may not be skipped
// without saying so, marks begin and end things.
type EventType string

const (
	// TypeStarted marks that a run was queued or began. A mark.
	TypeStarted EventType = "started"
	// TypeProgress carries the run's whole progress state: percent, current,
	// total and message. State: the newest replaces older ones.
	TypeProgress EventType = "progress"
	// TypeStep carries the whole state of one step. State, per step name.
	TypeStep EventType = "step"
	// TypeLog is one line for people to read. A record.
	TypeLog EventType = "log"
	// TypeOutput is one piece of streamed text, such as model tokens: Data is
	// a JSON string. A record.
	TypeOutput EventType = "output"
	// TypeClosed marks the end of a chain, as Temporal tells it. A mark.
	TypeClosed EventType = "closed"
)

// IsState reports whether a newer event of this type replaces an older one.
func (t EventType) IsState() bool { return t == TypeProgress || t == TypeStep }

// IsRecord reports whether every event of this type counts: a reader gets
// all of them, or an explicit gap.
func (t EventType) IsRecord() bool { return t == TypeLog || t == TypeOutput }

// Status is the state of a chain or of one step.
type Status string

// The statuses. StatusUnknown closes a chain that Temporal no longer knows.
const (
	StatusQueued     Status = "queued"
	StatusRunning    Status = "running"
	StatusCompleted  Status = "completed"
	StatusFailed     Status = "failed"
	StatusCanceled   Status = "canceled"
	StatusTerminated Status = "terminated"
	StatusTimedOut   Status = "timed_out"
	StatusUnknown    Status = "unknown"
)

// IsTerminal reports whether nothing follows this status within its chain,
// or within its attempt for a step.
func (s Status) IsTerminal() bool {
	switch s {
	case StatusCompleted, StatusFailed, StatusCanceled, StatusTerminated, StatusTimedOut, StatusUnknown:
		return true
	}
	return false
}

// valid reports whether s is one of the statuses above, or empty.
func (s Status) valid() bool {
	return s == "" || s == StatusQueued || s == StatusRunning || s.IsTerminal()
}

// Event is one fact about a workflow. It is immutable once appended.
//
// Epoch, Seq, Check and Lost are given by the append script; a writer leaves
// them zero. The JSON form is the wire form: what is stored, published and
// sent to viewers, byte for byte.
type Event struct {
	// Epoch says when the stream was created, in Unix milliseconds. It is
	// compared for equality only.
	Epoch int64 `json:"epoch,omitzero"`
	// Seq numbers the events of one workflow ID from 1, without holes.
	Seq int64 `json:"seq,omitzero"`
	// Check is the running hash over all events so far; see [NextCheck].
	Check string `json:"check,omitzero"`
	// Lost is how many events this event's producer could not write before
	// this one. Zero: none.
	Lost int64 `json:"lost,omitzero"`

	WorkflowID string `json:"workflow_id"`
	// RunID names the Temporal run that the event is about.
	RunID string `json:"run_id"`
	// Chain names all runs of one start: Temporal's FirstRunID.
	Chain string    `json:"chain"`
	Type  EventType `json:"type"`
	// Time is when the fact happened at its writer, in UTC, to the
	// microsecond.
	Time time.Time `json:"time"`

	// WorkflowType is set on started, and on the first event of an attempt.
	WorkflowType string `json:"workflow_type,omitempty"`
	// Status is the chain's status on started and closed, the step's on step.
	Status Status `json:"status,omitempty"`
	// Percent is 0 to 100; nil means that it is not known.
	Percent *float64 `json:"percent,omitempty"`
	// Current and Total count things done and to do; nil means not known.
	Current *int64 `json:"current,omitempty"`
	Total   *int64 `json:"total,omitempty"`
	// Step names the step that the event belongs to; required on step.
	Step    string `json:"step,omitempty"`
	Message string `json:"message,omitempty"`
	Error   string `json:"error,omitempty"`
	// Attempt is the activity attempt that wrote the event, from 1.
	Attempt int `json:"attempt,omitempty"`
	// Tags are the topics, beside its own, under which the workflow is
	// listed. Nil leaves them as they are.
	Tags []string `json:"tags,omitempty"`
	// Data is any JSON value; a JSON string on output.
	Data json.RawMessage `json:"data,omitempty"`
}

// Position returns the place in the stream right after this event.
func (e *Event) Position() Position {
	return Position{Epoch: e.Epoch, Seq: e.Seq, Check: e.Check}
}

// Validate reports what the event lacks or has too much of, before it is
// written. The error wraps [ErrInvalid] and names the field.
func (e *Event) Validate() error {
	switch e.Type {
	case TypeStarted, TypeClosed:
		if e.Status == "" {
			return fmt.Errorf("%w: a %s event needs a status", ErrInvalid, e.Type)
		}
	case TypeStep:
		if e.Step == "" || e.Status == "" {
			return fmt.Errorf("%w: a step event needs a step and a status", ErrInvalid)
		}
	case TypeOutput:
		var text string
		if err := json.Unmarshal(e.Data, &text); err != nil {
			return fmt.Errorf("%w: the data of an output event is not a JSON string", ErrInvalid)
		}
	case TypeProgress, TypeLog:
	default:
		return fmt.Errorf("%w: unknown event type %q", ErrInvalid, e.Type)
	}
	if !e.Status.valid() {
		return fmt.Errorf("%w: unknown status %q", ErrInvalid, e.Status)
	}
	if e.Type == TypeClosed && !e.Status.IsTerminal() {
		return fmt.Errorf("%w: a closed event cannot have status %q", ErrInvalid, e.Status)
	}
	if e.Percent != nil && !(*e.Percent >= 0 && *e.Percent <= 100) {
		return fmt.Errorf("%w: percent %v is not between 0 and 100", ErrInvalid, *e.Percent)
	}
	if e.Time.IsZero() {
		return fmt.Errorf("%w: the event has no time", ErrInvalid)
	}
	if y := e.Time.UTC().Year(); y < 1970 || y > 9999 {
		return fmt.Errorf("%w: the event's time is in the year %d", ErrInvalid, y)
	}
	if len(e.Data) > 0 && !json.Valid(e.Data) {
		return fmt.Errorf("%w: data is not JSON", ErrInvalid)
	}
	return CheckWorkflowID(e.WorkflowID)
}

// AppendBody appends the JSON object of the event without epoch, seq, check
// and lost, which the append script puts in front. Time is brought to UTC
// and microseconds; text that is not UTF-8 is replaced by U+FFFD. The result
// is one line.
func (e *Event) AppendBody(dst []byte) ([]byte, error) {
	body := *e
	body.Epoch, body.Seq, body.Check, body.Lost = 0, 0, "", 0
	body.Time = body.Time.UTC().Truncate(time.Microsecond)
	if len(body.Data) > 0 && !utf8.Valid(body.Data) {
		body.Data = bytes.ToValidUTF8(body.Data, []byte("\uFFFD"))
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	// Viewers receive these bytes as they are; "<" needs no escape in JSON
	// that is never pasted into HTML.
	enc.SetEscapeHTML(false)
	if err := enc.Encode(&body); err != nil {
		return dst, fmt.Errorf("%w: encode event: %w", ErrInvalid, err)
	}
	return append(dst, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...), nil
}

// DecodeEvent reads the wire form. Unknown fields are ignored, so that a
// newer writer does not stop an older reader.
func DecodeEvent(wire []byte) (Event, error) {
	var e Event
	if err := json.Unmarshal(wire, &e); err != nil {
		return Event{}, fmt.Errorf("%w: decode event: %w", ErrInvalid, err)
	}
	if e.Epoch <= 0 || e.Seq <= 0 || !isCheck(e.Check) {
		return Event{}, fmt.Errorf("%w: decode event: epoch, seq or check is missing", ErrInvalid)
	}
	return e, nil
}

// MaxWorkflowIDBytes is Temporal's own limit for a workflow ID
// (limit.maxIDLength in Temporal's dynamic configuration).
const MaxWorkflowIDBytes = 1000

// CheckWorkflowID reports an ID that Temporal would refuse too: empty, or
// longer than [MaxWorkflowIDBytes]. The error wraps [ErrInvalid].
func CheckWorkflowID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("%w: the workflow ID is empty", ErrInvalid)
	case len(id) > MaxWorkflowIDBytes:
		return fmt.Errorf("%w: the workflow ID has %d bytes; Temporal allows %d", ErrInvalid, len(id), MaxWorkflowIDBytes)
	case !utf8.ValidString(id):
		return fmt.Errorf("%w: the workflow ID is not UTF-8", ErrInvalid)
	}
	return nil
}
