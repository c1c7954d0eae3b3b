package reporter_test

import (
	"context"
	"strconv"
	"sync"
	"testing"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/reporter"
)

// startsAtOnce is a Temporal whose starts take no time, so that what a start
// costs is the note's.
type startsAtOnce struct {
	interceptor.ClientOutboundInterceptorBase
}

func (*startsAtOnce) ExecuteWorkflow(_ context.Context, in *interceptor.ClientExecuteWorkflowInput) (client.WorkflowRun, error) {
	return begunRun{id: in.Options.ID}, nil
}

type begunRun struct {
	client.WorkflowRun
	id string
}

func (r begunRun) GetID() string    { return r.id }
func (r begunRun) GetRunID() string { return "run of " + r.id }

// startMany starts workflows by the interceptor.
func startMany(t *testing.T, starts *reporter.Starts, many int) {
	t.Helper()
	c := starts.InterceptClient(&startsAtOnce{})
	for i := range many {
		run, err := c.ExecuteWorkflow(t.Context(), &interceptor.ClientExecuteWorkflowInput{
			WorkflowType: "doWork", Options: &client.StartWorkflowOptions{ID: "wf-" + strconv.Itoa(i)},
		})
		if err != nil || run.GetID() != "wf-"+strconv.Itoa(i) {
			t.Fatalf("got %v, %v", run, err)
		}
	}
}

// gated is a store whose appends wait until it is opened, and then end with
// err. The zero value is open.
type gated struct {
	reporter.Store
	open <-chan struct{}
	err  error

	mu      sync.Mutex
	appends []redisstore.Append
}

func (g *gated) Append(_ context.Context, a redisstore.Append) (redisstore.Result, error) {
	if g.open != nil {
		<-g.open
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.appends = append(g.appends, a)
	return redisstore.Result{}, g.err
}

// A store that takes nothing holds no start up: notes wait, as many as there
// is room for, and what is more is dropped and counted. The stop is bounded.
func TestStartsDoNotWait(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	store := &gated{open: release}
	starts := reporter.ClientInterceptor(store)
	const many = 3000
	startMany(t, starts, many) // the store would hold it up for ever
	before := starts.Stats()
	if before.Dropped < many-1000-8 || before.Written != 0 {
		t.Errorf("stats %+v", before)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	stopped := make(chan struct{})
	go func() { defer close(stopped); starts.Stop(ended) }()
	close(release)
	<-stopped
	if s := starts.Stats(); s.Written+s.Dropped != many {
		t.Errorf("stats %+v", s)
	}
}

// What is pending is written before the stop returns.
func TestStopWritesNotes(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	store := &gated{open: release}
	starts := reporter.ClientInterceptor(store)
	const many = 50
	startMany(t, starts, many)
	stopped := make(chan struct{})
	go func() { defer close(stopped); starts.Stop(t.Context()) }()
	close(release)
	<-stopped
	if s := starts.Stats(); s != (reporter.StartsStats{Written: many}) {
		t.Errorf("stats %+v", s)
	}
	for _, a := range store.appends {
		e := a.Events[0]
		if !a.Fence.Provisional || a.Fence.RunTime != e.Time || a.Number != 1 || a.Producer.Name != "q/"+e.RunID ||
			e.Status != progress.StatusQueued || e.Chain != e.RunID || e.WorkflowType != "doWork" {
			t.Errorf("written %+v", a)
		}
	}
	startMany(t, starts, 1) // it may be used again
	starts.Stop(t.Context())
	if s := starts.Stats(); s.Written != many+1 {
		t.Errorf("stats %+v", s)
	}
}

// A note that comes too late is none that is missing.
func TestLateNotes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want reporter.StartsStats
	}{
		{progress.ErrSuperseded, reporter.StartsStats{Late: 1}},
		{progress.ErrClosed, reporter.StartsStats{Late: 1}},
		{progress.ErrUnknownRun, reporter.StartsStats{Late: 1}},
		{progress.ErrUnavailable, reporter.StartsStats{Dropped: 1}},
	} {
		starts := reporter.ClientInterceptor(&gated{err: tt.err})
		startMany(t, starts, 1)
		starts.Stop(t.Context())
		if got := starts.Stats(); got != tt.want {
			t.Errorf("%v: stats %+v, want %+v", tt.err, got, tt.want)
		}
	}
}

// A store that hangs gives a note up after a while, by itself.
func TestNotesAreGivenUp(t *testing.T) {
	t.Parallel()
	starts := reporter.ClientInterceptor(stuckStore{})
	startMany(t, starts, 100)
	starts.Stop(t.Context())
	if s := starts.Stats(); s != (reporter.StartsStats{Dropped: 100}) {
		t.Errorf("stats %+v", s)
	}
}
