package progress

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAdvance(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0).UTC() }
	half := 50.0
	events := []Event{
		{Epoch: 1000, Seq: 4, WorkflowID: "w", RunID: "r1", Chain: "r1", Type: TypeProgress, Time: at(9), WorkflowType: "T", Tags: []string{"a"}, Percent: &half, Step: "load"},
		{Epoch: 1000, Seq: 9, WorkflowID: "w", RunID: "r1", Chain: "r1", Type: TypeProgress, Time: at(10), Message: "on"},
		{Epoch: 11_000, Seq: 1, WorkflowID: "w", RunID: "r2", Chain: "r1", Type: TypeProgress, Time: at(11), Message: "again"},
		{Epoch: 11_000, Seq: 3, WorkflowID: "w", RunID: "r2", Chain: "r1", Type: TypeClosed, Time: at(12), Status: StatusCompleted},
		{Epoch: 20_000, Seq: 1, WorkflowID: "w", RunID: "r3", Chain: "r3", Type: TypeProgress, Time: at(21), WorkflowType: "T"},
	}
	base := Snapshot{V: Version, WorkflowID: "w", Type: "T", Tags: []string{"a"}, Status: StatusRunning, StartedAt: at(1)}
	want := func(change func(*Snapshot)) Snapshot { s := base; change(&s); return s }
	wants := []Snapshot{
		want(func(s *Snapshot) {
			s.Epoch, s.Seq, s.RunID, s.Chain, s.UpdatedAt, s.Percent, s.Step = 1000, 4, "r1", "r1", at(9), &half, "load"
		}),
		want(func(s *Snapshot) {
			s.Epoch, s.Seq, s.RunID, s.Chain, s.UpdatedAt, s.Message, s.Step = 1000, 9, "r1", "r1", at(10), "on", "load"
		}),
		want(func(s *Snapshot) {
			s.Epoch, s.Seq, s.RunID, s.Chain, s.UpdatedAt, s.Message = 11_000, 1, "r2", "r1", at(11), "again"
		}),
		want(func(s *Snapshot) {
			s.Epoch, s.Seq, s.RunID, s.Chain, s.UpdatedAt, s.Message = 11_000, 3, "r2", "r1", at(12), "again"
			s.Status, s.ClosedAt = StatusCompleted, at(12)
		}),
		want(func(s *Snapshot) {
			s.Epoch, s.Seq, s.RunID, s.Chain, s.UpdatedAt = 20_000, 1, "r3", "r3", at(21)
			s.StartedAt, s.Tags = at(20), nil
		}),
	}
	var s Snapshot
	for i := range events {
		if err := s.Advance(&events[i]); err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
		if diff := cmp.Diff(wants[i], s); diff != "" {
			t.Errorf("after event %d (-want +got):\n%s", i, diff)
		}
	}
	for _, e := range []Event{events[4], {Epoch: 20_000, Seq: 0}, {Epoch: 21_000}, {Epoch: 11_000, Seq: 9}} {
		before := s.Clone()
		if err := s.Advance(&e); !errors.Is(err, ErrNotNext) {
			t.Errorf("version %d of %d: %v, want ErrNotNext", e.Seq, e.Epoch, err)
		}
		if diff := cmp.Diff(before, s); diff != "" {
			t.Errorf("it changed:\n%s", diff)
		}
	}
}
