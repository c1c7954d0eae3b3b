package progress

import "time"

// TopicKind says what a topic follows.
type TopicKind uint8

const (
	// TopicWorkflow follows one workflow ID: events, with all promises.
	TopicWorkflow TopicKind = iota
	// TopicTag follows one tag: summaries of its workflows, newest only.
	TopicTag
)

// Topic is what a viewer follows. It is comparable.
type Topic struct {
	Kind TopicKind
	// Name is the workflow ID or the tag.
	Name string
}

// RawEvent is an event in its wire form, as stored and published. Data is
// never changed once made; whoever receives it may keep it.
type RawEvent struct {
	Seq  int64
	Data []byte
}

// View is one consistent reading of a workflow: the snapshot, and a stretch
// of the stream's events. All events are of the snapshot's epoch and none is
// newer than the snapshot.
type View struct {
	Snapshot Snapshot
	Events   []RawEvent
}

// Summary is the short form of a workflow in lists and on tag topics.
type Summary struct {
	WorkflowID string    `json:"workflow_id"`
	RunID      string    `json:"run_id,omitempty"`
	Type       string    `json:"type,omitempty"`
	Status     Status    `json:"status,omitempty"`
	Percent    *float64  `json:"percent,omitempty"`
	Current    *int64    `json:"current,omitempty"`
	Total      *int64    `json:"total,omitempty"`
	Step       string    `json:"step,omitempty"`
	Message    string    `json:"message,omitempty"`
	Error      string    `json:"error,omitempty"`
	StartedAt  time.Time `json:"started_at,omitzero"`
	UpdatedAt  time.Time `json:"updated_at,omitzero"`
	ClosedAt   time.Time `json:"closed_at,omitzero"`
	Tags       []string  `json:"tags,omitempty"`
	// Position is where the workflow's stream stood; see [Position].
	Position string `json:"position"`
}

// Summary returns the short form of s.
func (s *Snapshot) Summary() Summary {
	return Summary{
		WorkflowID: s.WorkflowID, RunID: s.RunID, Type: s.Type, Status: s.Status,
		Percent: s.Percent, Current: s.Current, Total: s.Total,
		Step: s.Step, Message: s.Message, Error: s.Error,
		StartedAt: s.StartedAt, UpdatedAt: s.UpdatedAt, ClosedAt: s.ClosedAt,
		Tags: s.Tags, Position: s.Position().String(),
	}
}
