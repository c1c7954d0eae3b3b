package progress

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Version is the version of the contract: of the event's and the snapshot's
// form, and of the fold.
const Version = 1

// DefaultMaxSteps is how many steps a snapshot holds. A fold with another
// bound is another fold, so it is part of the contract and no option.
const DefaultMaxSteps = 100

// Snapshot is the fold of all events of a workflow so far: what a new viewer
// sees first. The zero value is the empty stream's.
type Snapshot struct {
	V          int    `json:"v"`
	WorkflowID string `json:"workflow_id"`
	Epoch      int64  `json:"epoch"`
	Seq        int64  `json:"seq"`
	Check      string `json:"check"`
	// FirstSeq is the first seq that the stream still holds; 0 when it holds
	// none. The fold leaves it alone after the first event; a reader sets it.
	FirstSeq int64 `json:"first_seq"`

	RunID string `json:"run_id,omitempty"`
	Chain string `json:"chain,omitempty"`
	// Type is the workflow type.
	Type    string   `json:"type,omitempty"`
	Status  Status   `json:"status,omitempty"`
	Percent *float64 `json:"percent,omitempty"`
	Current *int64   `json:"current,omitempty"`
	Total   *int64   `json:"total,omitempty"`
	// Step is the step that last began, or that progress named.
	Step    string `json:"step,omitempty"`
	Message string `json:"message,omitempty"`
	// Error says why the chain ended, when it did not complete.
	Error     string    `json:"error,omitempty"`
	Attempt   int       `json:"attempt,omitempty"`
	StartedAt time.Time `json:"started_at,omitzero"`
	UpdatedAt time.Time `json:"updated_at,omitzero"`
	// ClosedAt is zero while the chain is open.
	ClosedAt time.Time `json:"closed_at,omitzero"`
	Tags     []string  `json:"tags,omitempty"`

	// Steps are in the order in which they first appeared.
	Steps []Step `json:"steps,omitempty"`
	// StepsOmitted counts the steps that the bound kept out.
	StepsOmitted int `json:"steps_omitted,omitempty"`
	// Outputs are the open outputs, ordered by step.
	Outputs []Output `json:"outputs,omitempty"`
	// OutputFrom is the first seq of the oldest open output; 0: none is open.
	OutputFrom int64 `json:"output_from,omitempty"`
	// Records are the stream's records from OutputFrom on, in wire form. The
	// fold leaves them empty; a reader that serves new viewers fills them.
	Records []json.RawMessage `json:"records,omitempty"`
}

// Step is the state of one step.
type Step struct {
	Name string `json:"name,omitempty"`
	// First and Seq are the events with which the step first appeared and
	// last changed.
	First   int64     `json:"first,omitempty"`
	Seq     int64     `json:"seq,omitempty"`
	Status  Status    `json:"status"`
	Percent *float64  `json:"percent,omitempty"`
	Current *int64    `json:"current,omitempty"`
	Total   *int64    `json:"total,omitempty"`
	Message string    `json:"message,omitempty"`
	Error   string    `json:"error,omitempty"`
	Attempt int       `json:"attempt,omitempty"`
	Time    time.Time `json:"time,omitzero"`
}

// Output says where the open output of a step began. It closes with its step
// and with the chain; a new attempt begins a new one.
type Output struct {
	Step    string `json:"step"`
	From    int64  `json:"from"`
	Attempt int    `json:"attempt"`
}

// Position returns the place in the stream that the snapshot shows.
func (s *Snapshot) Position() Position {
	return Position{Epoch: s.Epoch, Seq: s.Seq, Check: s.Check}
}

// Closed reports whether the newest chain has ended.
func (s *Snapshot) Closed() bool { return !s.ClosedAt.IsZero() }

// Clone returns a copy that shares nothing that Apply changes.
func (s *Snapshot) Clone() Snapshot {
	c := *s
	c.Tags = slices.Clone(s.Tags)
	c.Steps = slices.Clone(s.Steps)
	c.Outputs = slices.Clone(s.Outputs)
	return c
}

// Fold returns the snapshot of the given events, which begin a stream.
func Fold(events []Event) (Snapshot, error) {
	var s Snapshot
	for i := range events {
		if err := s.Apply(&events[i]); err != nil {
			return s, err
		}
	}
	return s, nil
}

// Apply folds the next event into s. An event that is not the next one (its
// seq does not follow, or its epoch is another) changes nothing and returns
// an error that wraps [ErrNotNext].
//
// The append script applies the same rules to the hash; the golden vectors
// hold both to it.
func (s *Snapshot) Apply(e *Event) error {
	if e.Seq != s.Seq+1 || (s.Seq > 0 && e.Epoch != s.Epoch) {
		return fmt.Errorf("%w: seq %d of epoch %d after seq %d of epoch %d", ErrNotNext, e.Seq, e.Epoch, s.Seq, s.Epoch)
	}
	if s.Seq == 0 {
		s.V, s.WorkflowID, s.FirstSeq = Version, e.WorkflowID, 1
	}
	s.Epoch, s.Seq, s.Check = e.Epoch, e.Seq, e.Check
	fresh := s.Seq == 1 || e.RunID != s.RunID || e.Chain != s.Chain
	if fresh {
		s.beginRun(e)
	}
	s.UpdatedAt = e.Time
	if e.WorkflowType != "" {
		s.Type = e.WorkflowType
	}
	if e.Tags != nil {
		s.Tags = slices.Clone(e.Tags)
	}
	switch e.Type {
	case TypeStarted:
		// A late "queued" does not hide that the run has begun.
		if e.Status != StatusQueued || fresh {
			s.Status = e.Status
		}
	case TypeProgress:
		s.applyProgress(e)
	case TypeStep:
		s.applyStep(e)
	case TypeOutput:
		s.openOutput(e)
	case TypeClosed:
		s.Status, s.Error, s.ClosedAt = e.Status, e.Error, e.Time
		s.Outputs, s.OutputFrom = nil, 0
	}
	return nil
}

// beginRun drops what belonged to the run before. Within a chain (continue
// as new, retry, cron, reset) its start, type and tags stay.
func (s *Snapshot) beginRun(e *Event) {
	next := Snapshot{
		V: s.V, WorkflowID: s.WorkflowID, Epoch: s.Epoch, Seq: s.Seq, Check: s.Check, FirstSeq: s.FirstSeq,
		RunID: e.RunID, Chain: e.Chain, Status: StatusRunning, StartedAt: e.Time,
	}
	if e.Chain == s.Chain && s.Seq > 1 {
		next.StartedAt, next.Type, next.Tags = s.StartedAt, s.Type, s.Tags
	}
	*s = next
}

func (s *Snapshot) applyProgress(e *Event) {
	s.Percent, s.Current, s.Total, s.Message = e.Percent, e.Current, e.Total, e.Message
	if e.Step != "" {
		s.Step = e.Step
	}
	if e.Attempt > 0 {
		s.Attempt = e.Attempt
	}
	s.running()
}

// running notes that a queued run does something.
func (s *Snapshot) running() {
	if s.Status == StatusQueued {
		s.Status = StatusRunning
	}
}

func (s *Snapshot) applyStep(e *Event) {
	i := slices.IndexFunc(s.Steps, func(st Step) bool { return st.Name == e.Step })
	if e.Status == StatusQueued && i >= 0 {
		return // the step began before the note that it was scheduled came
	}
	state := Step{
		Name: e.Step, First: e.Seq, Seq: e.Seq, Status: e.Status,
		Percent: e.Percent, Current: e.Current, Total: e.Total,
		Message: e.Message, Error: e.Error, Attempt: e.Attempt, Time: e.Time,
	}
	switch {
	case i >= 0:
		state.First = s.Steps[i].First
		s.Steps[i] = state
	case len(s.Steps) < DefaultMaxSteps:
		s.Steps = append(s.Steps, state)
	default:
		s.StepsOmitted++
		if j := s.oldestFinished(); j >= 0 {
			s.Steps = append(slices.Delete(s.Steps, j, j+1), state)
		}
	}
	if e.Status == StatusRunning {
		s.Step = e.Step
		if e.Attempt > 0 {
			s.Attempt = e.Attempt
		}
	}
	if e.Status != StatusQueued {
		s.running()
	}
	s.closeOutput(e)
}

// oldestFinished returns the index of the finished step that changed first,
// which makes room for a new one, or -1.
func (s *Snapshot) oldestFinished() int {
	oldest := -1
	for i, st := range s.Steps {
		if st.Status.IsTerminal() && (oldest < 0 || st.Seq < s.Steps[oldest].Seq) {
			oldest = i
		}
	}
	return oldest
}

// openOutput notes where an output begins: with its first piece, and anew
// with the first piece of another attempt. Steps and outputs share a bound;
// an output beyond it is in the stream but not in new viewers' records.
func (s *Snapshot) openOutput(e *Event) {
	i, found := slices.BinarySearchFunc(s.Outputs, e.Step, func(o Output, step string) int {
		return strings.Compare(o.Step, step)
	})
	open := Output{Step: e.Step, From: e.Seq, Attempt: e.Attempt}
	switch {
	case found && s.Outputs[i].Attempt == e.Attempt:
		return
	case found:
		s.Outputs[i] = open
	case len(s.Outputs) < DefaultMaxSteps:
		s.Outputs = slices.Insert(s.Outputs, i, open)
	}
	s.outputFrom()
}

// closeOutput ends the step's open output when the step finishes or another
// attempt takes it over.
func (s *Snapshot) closeOutput(e *Event) {
	s.Outputs = slices.DeleteFunc(s.Outputs, func(o Output) bool {
		return o.Step == e.Step && (e.Status.IsTerminal() || o.Attempt != e.Attempt)
	})
	if len(s.Outputs) == 0 {
		s.Outputs = nil
	}
	s.outputFrom()
}

func (s *Snapshot) outputFrom() {
	s.OutputFrom = 0
	for _, o := range s.Outputs {
		if s.OutputFrom == 0 || o.From < s.OutputFrom {
			s.OutputFrom = o.From
		}
	}
}
