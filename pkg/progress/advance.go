package progress

import (
	"fmt"
	"time"
)

// Advance folds an event whose seq is a version: it carries the whole state,
// so versions may be jumped over, and its epoch is when its run began, in Unix
// ms, so that a greater epoch is a later run. An event that is not newer than s
// changes nothing and returns an error that wraps [ErrNotNext].
//
// No stream is held behind such a snapshot: its FirstSeq is 0.
func (s *Snapshot) Advance(e *Event) error {
	if e.Seq < 1 || e.Epoch < s.Epoch || e.Epoch == s.Epoch && e.Seq <= s.Seq {
		return fmt.Errorf("%w: version %d of run %d after version %d of run %d", ErrNotNext, e.Seq, e.Epoch, s.Seq, s.Epoch)
	}
	before := *s
	// What was jumped over is in the event.
	s.Epoch, s.Seq = e.Epoch, e.Seq-1
	if err := s.Apply(e); err != nil {
		*s = before
		return err
	}
	s.V, s.WorkflowID, s.FirstSeq = Version, e.WorkflowID, 0
	switch {
	case before.Seq > 0 && e.Chain == before.Chain:
		s.StartedAt = before.StartedAt
		if s.Type == "" {
			s.Type = before.Type
		}
		if s.Tags == nil {
			s.Tags = before.Tags
		}
	default:
		// The event's own time is that of its change, not of the beginning.
		s.StartedAt = time.UnixMilli(e.Epoch).UTC()
	}
	return nil
}
