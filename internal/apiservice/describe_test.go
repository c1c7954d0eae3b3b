package apiservice

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/subscriber/strategies"
)

// frontend answers describes as it is told, in a second.
type frontend struct {
	workflowservice.WorkflowServiceClient // nil: it is asked for nothing else

	mu    sync.Mutex
	err   error
	asked int
}

func (f *frontend) DescribeWorkflowExecution(ctx context.Context, _ *workflowservice.DescribeWorkflowExecutionRequest, _ ...grpc.CallOption) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	f.mu.Lock()
	f.asked++
	err := f.err
	f.mu.Unlock()
	time.Sleep(time.Second)
	return &workflowservice.DescribeWorkflowExecutionResponse{}, err
}

func (f *frontend) answers(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// took returns how often it was asked since the last time.
func (f *frontend) took() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.asked
	f.asked = 0
	return n
}

// findAll asks for n workflows at once, and returns how many were told to come
// later.
func findAll(t *testing.T, d *describer, n int) (later int) {
	t.Helper()
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = d.find(t.Context(), fmt.Sprint(i)) })
	}
	wg.Wait()
	for _, err := range errs {
		if l, ok := errors.AsType[*strategies.Later](err); ok {
			later++
			if l.After <= 0 || l.After > refusedFor {
				t.Errorf("to be asked again in %v", l.After)
			}
		}
	}
	return later
}

var (
	errExhausted = serviceerror.NewResourceExhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_RPS_LIMIT, "too many")
	errBusyRun   = serviceerror.NewResourceExhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_BUSY_WORKFLOW, "the workflow is busy")
)

// After a refusal nobody asks for a while; then one does for all, until the
// answer is one.
func TestDescriberLeavesTemporalAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &frontend{err: errExhausted}
		d := newDescriber(f, "")
		expect := func(what string, n, later, asked int) {
			t.Helper()
			if l, a := findAll(t, d, n), f.took(); l != later || a != asked {
				t.Errorf("%s: %d of %d were told to come later, and %d asked; want %d and %d", what, l, n, a, later, asked)
			}
		}
		expect("the first", 1, 1, 1)
		expect("the next", 10, 10, 0)
		time.Sleep(refusedFor)
		expect("after the time", 10, 10, 1)
		expect("still refused", 10, 10, 0)
		f.answers(context.DeadlineExceeded)
		time.Sleep(refusedFor)
		expect("no answer in time", 10, 10, 1)
		expect("which is none", 10, 10, 0)
		f.answers(serviceerror.NewNotFound("none"))
		time.Sleep(refusedFor)
		expect("who asks first", 10, 9, 1)
		expect("once it has answered", 10, 0, 10)
	})
}

// Who asked before another was refused does not end the pause.
func TestDescriberEarlierAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &frontend{}
		d := newDescriber(f, "")
		var wg sync.WaitGroup
		wg.Go(func() { findAll(t, d, 1) })
		synctest.Wait()
		f.answers(errExhausted)
		wg.Go(func() { findAll(t, d, 1) })
		wg.Wait()
		if later := findAll(t, d, 5); later != 5 {
			t.Errorf("%d of 5 were told to come later", later)
		}
	})
}

func TestDescriberErrors(t *testing.T) {
	for _, tt := range []struct {
		err              error
		later, all, none bool
	}{
		{err: nil},
		{err: errExhausted, later: true, all: true},
		{err: serviceerror.NewUnavailable("away"), later: true, all: true},
		// Of the one workflow.
		{err: errBusyRun, later: true},
		{err: serviceerror.NewDeadlineExceeded("late"), later: true},
		{err: context.DeadlineExceeded, later: true},
		// Answers, good or bad.
		{err: serviceerror.NewNotFound("none"), none: true},
		{err: serviceerror.NewPermissionDenied("no", "")},
		{err: serviceerror.NewInvalidArgument("the ID is too long")},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &frontend{err: tt.err}
			d := newDescriber(f, "")
			err := d.find(t.Context(), "w")
			_, later := errors.AsType[*strategies.Later](err)
			if (err == nil) != (tt.err == nil) || later != tt.later || errors.Is(err, progress.ErrNotFound) != tt.none {
				t.Errorf("%v is taken for %v", tt.err, err)
			}
			f.answers(nil)
			if all := d.find(t.Context(), "other") != nil; all != tt.all {
				t.Errorf("after %v another workflow is asked for: %t", tt.err, !all)
			}
		})
	}
}
