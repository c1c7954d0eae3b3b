package reporter

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

const (
	// noteFor bounds how long after its start a note may be written. What it
	// says is soon out of date, and by then the worker has said more.
	noteFor = time.Second
	// notesMax bounds the notes that wait, notersMax the goroutines that write
	// them.
	notesMax  = 1000
	notersMax = 8
)

// ClientInterceptor returns an interceptor for clients that start workflows:
// after a start it notes that the run is queued, so that it shows before any
// worker takes it. The start does not wait for the note, and never fails for
// it. An update with start notes nothing: it returns when a worker has the
// run. Call [Starts.Stop] before the store is closed.
func ClientInterceptor(store Store) *Starts {
	s := &Starts{store: store}
	s.tasks.init()
	return s
}

// Starts is an interceptor for clients, which notes what they start; see
// [ClientInterceptor]. One may serve several clients.
type Starts struct {
	interceptor.ClientInterceptorBase
	store Store
	tasks tasks
	count struct{ written, late, dropped atomic.Int64 }

	mu      sync.Mutex
	pending []progress.Event
	writing int // goroutines that write
}

var _ interceptor.ClientInterceptor = (*Starts)(nil)

// StartsStats counts what became of the notes.
type StartsStats struct {
	// Written are in the store; a start that returns a run which still waits
	// for a worker counts, too, and writes nothing twice.
	Written int64
	// Late were not needed any more: the run had begun, or was one that had
	// been going on for long.
	Late int64
	// Dropped were not written in time, because the store was away or too many
	// waited. It is no loss: the worker says that the run has started.
	Dropped int64
}

// Stats returns the counts so far.
func (s *Starts) Stats() StartsStats {
	return StartsStats{Written: s.count.written.Load(), Late: s.count.late.Load(), Dropped: s.count.dropped.Load()}
}

// Stop waits until the notes that are pending are written, or ctx ends, and
// then gives them up. It may be called again, and the interceptor may be used
// again after it.
func (s *Starts) Stop(ctx context.Context) {
	s.tasks.stop(ctx)
}

// InterceptClient implements [interceptor.ClientInterceptor].
func (s *Starts) InterceptClient(next interceptor.ClientOutboundInterceptor) interceptor.ClientOutboundInterceptor {
	o := &clientOutbound{starts: s}
	o.Next = next
	return o
}

type clientOutbound struct {
	interceptor.ClientOutboundInterceptorBase
	starts *Starts
}

func (o *clientOutbound) ExecuteWorkflow(ctx context.Context, in *interceptor.ClientExecuteWorkflowInput) (client.WorkflowRun, error) {
	run, err := o.Next.ExecuteWorkflow(ctx, in)
	if err == nil {
		o.starts.started(run, in.WorkflowType, in.Options)
	}
	return run, err
}

func (o *clientOutbound) SignalWithStartWorkflow(ctx context.Context, in *interceptor.ClientSignalWithStartWorkflowInput) (client.WorkflowRun, error) {
	run, err := o.Next.SignalWithStartWorkflow(ctx, in)
	if err == nil {
		o.starts.started(run, in.WorkflowType, in.Options)
	}
	return run, err
}

// started takes over the note of a start, unless too many wait.
func (s *Starts) started(run client.WorkflowRun, workflowType string, options *client.StartWorkflowOptions) {
	if workflowType == reconcilerWorkflow {
		return
	}
	note := progress.Event{
		WorkflowID: run.GetID(), RunID: run.GetRunID(), Chain: run.GetRunID(), Type: progress.TypeStarted, Time: time.Now(),
		WorkflowType: workflowType, Status: progress.StatusQueued,
	}
	if options != nil {
		note.Tags = tagsOf(options.Memo)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) == notesMax {
		s.count.dropped.Add(1)
		return
	}
	s.pending = append(s.pending, note)
	if s.writing < notersMax {
		s.writing++
		s.tasks.start(s.writeNotes)
	}
}

// writeNotes writes notes until there are none.
func (s *Starts) writeNotes(ctx context.Context) {
	for {
		s.mu.Lock()
		if len(s.pending) == 0 {
			s.pending = nil // an array that has grown is not kept
			s.writing--
			s.mu.Unlock()
			return
		}
		note := s.pending[0]
		s.pending = s.pending[1:]
		s.mu.Unlock()
		s.write(ctx, note)
	}
}

// write writes the note. A start may also return a run that has been going on
// for long, or that a worker has taken meanwhile: the store refuses it then.
func (s *Starts) write(ctx context.Context, note progress.Event) {
	ctx, cancel := context.WithDeadline(ctx, note.Time.Add(noteFor))
	defer cancel()
	if ctx.Err() != nil {
		s.count.dropped.Add(1)
		return
	}
	_, err := s.store.Append(ctx, redisstore.Append{
		WorkflowID: note.WorkflowID,
		Fence:      redisstore.Fence{RunID: note.RunID, Chain: note.Chain, RunTime: note.Time, Provisional: true},
		Producer:   redisstore.Producer{Name: "q/" + note.RunID},
		Number:     1,
		Events:     []progress.Event{note},
	})
	switch {
	case err == nil:
		s.count.written.Add(1)
	case ended(err), errors.Is(err, progress.ErrUnknownRun):
		s.count.late.Add(1)
	default:
		s.count.dropped.Add(1)
	}
}
