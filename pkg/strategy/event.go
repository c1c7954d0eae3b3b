package strategy

import (
	"unicode/utf8"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/progress"
)

// stateEvent is how a state is followed: the whole of it, at its position. It
// is a progress event, so it replaces what came before; Step and Status are of
// the step that changed last.
func stateEvent(id string, at progress.Position, s *handlers.State) progress.Event {
	return progress.Event{
		Epoch: at.Epoch, Seq: at.Seq,
		WorkflowID: id, RunID: s.RunID, Chain: s.Chain, WorkflowType: s.Type,
		Type: progress.TypeProgress, Time: s.Time,
		Percent: s.Percent, Current: s.Current, Total: s.Total,
		Step: s.Step, Status: s.StepStatus, Message: s.Message, Tags: s.Tags,
	}
}

// closedEvent is the end of a chain, whose last run is r.
func closedEvent(id string, r *run, at progress.Position, text string) progress.Event {
	return progress.Event{
		Epoch: at.Epoch, Seq: at.Seq,
		WorkflowID: id, RunID: r.id, Chain: r.chain, WorkflowType: r.workflowType,
		Type: progress.TypeClosed, Time: r.closed, Status: r.status, Error: bounded(text),
	}
}

// errorMax bounds the text of an error, in bytes: it is for people to read.
const errorMax = 4 << 10

// bounded returns the text, cut at the boundary of a character.
func bounded(text string) string {
	if len(text) <= errorMax {
		return text
	}
	const more = "…"
	at := errorMax - len(more)
	for at > 0 && !utf8.RuneStart(text[at]) {
		at--
	}
	return text[:at] + more
}
