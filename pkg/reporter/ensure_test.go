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

// EnsureReconciler may be called by everyone who starts, and brings the task
// queue's schedule in line. That of another queue stays as it is.
func TestEnsureReconciler(t *testing.T) {
	t.Parallel()
	c := testenv.Temporal(t)
	queue := testenv.Prefix(t)
	for _, q := range []string{queue + "a", queue + "b"} {
		defer func() {
			if err := c.ScheduleClient().GetHandle(context.WithoutCancel(t.Context()), reporter.ReconcilerID(q)).Delete(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		}()
	}
	for _, tc := range []struct {
		queue string
		every time.Duration
	}{{"a", 0}, {"a", 0}, {"a", time.Minute}, {"b", time.Hour}, {"a", time.Minute}} {
		tc.queue = queue + tc.queue
		if err := reporter.EnsureReconciler(t.Context(), c, tc.queue, tc.every); err != nil {
			t.Fatal(err)
		}
		d, err := c.ScheduleClient().GetHandle(t.Context(), reporter.ReconcilerID(tc.queue)).Describe(t.Context())
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
	d, err := c.ScheduleClient().GetHandle(t.Context(), reporter.ReconcilerID(queue+"b")).Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if every := d.Schedule.Spec.Intervals[0].Every; every != time.Hour {
		t.Errorf("the other queue's schedule runs every %v", every)
	}
}
