package reporter_test

import (
	"context"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/reporter"
)

// EnsureReconciler may be called by everyone who starts, and brings the one
// schedule in line. Not parallel: the other tests use that schedule.
func TestEnsureReconciler(t *testing.T) {
	c := testenv.Temporal(t)
	handle := c.ScheduleClient().GetHandle(t.Context(), reporter.ReconcilerID)
	defer func() {
		ctx := context.WithoutCancel(t.Context())
		if err := handle.Delete(ctx); err != nil {
			t.Error(err)
		}
		if shared.queue == "" {
			return
		}
		// With -count the others have set it up before.
		if err := reporter.EnsureReconciler(ctx, c, shared.queue, 0); err != nil {
			t.Error(err)
		}
	}()
	for _, tc := range []struct {
		queue string
		every time.Duration
	}{{"a", 0}, {"a", 0}, {"a", time.Minute}, {"b", time.Minute}} {
		if err := reporter.EnsureReconciler(t.Context(), c, tc.queue, tc.every); err != nil {
			t.Fatal(err)
		}
		d, err := handle.Describe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := tc.every
		if want == 0 {
			want = 10 * time.Second
		}
		s := d.Schedule
		if action := s.Action.(*client.ScheduleWorkflowAction); action.TaskQueue != tc.queue {
			t.Errorf("%+v: the queue is %q", tc, action.TaskQueue)
		}
		if len(s.Spec.Intervals) != 1 || s.Spec.Intervals[0].Every != want {
			t.Errorf("%+v: the spec is %+v", tc, s.Spec)
		}
		if s.Policy.Overlap != enumspb.SCHEDULE_OVERLAP_POLICY_SKIP {
			t.Errorf("rounds may overlap: %v", s.Policy.Overlap)
		}
	}
}
