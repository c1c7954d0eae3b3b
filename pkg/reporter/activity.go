package reporter

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// ActivityReporter reports from one execution of an activity. Its methods may
// be called from any goroutine, also on nil, where they do nothing. They
// return at once, and are ignored once the activity has ended.
//
// The first report after a pause is written at once. Further ones are merged
// and written at most every 50 ms: of state only the newest counts, output is
// joined, lines of log are all kept.
type ActivityReporter struct {
	r        *Reporter
	id       *identity
	producer redisstore.Producer
	attempt  int
	step     string // the activity's own; empty: it is none

	wake   chan struct{} // there is something to write
	urgent chan struct{} // and it must not wait for the interval
	ending chan struct{} // closed by finish
	ended  chan struct{} // closed by run, when everything is settled

	mu       sync.Mutex
	buffer   buffer
	finished bool
	refused  error // why the store takes nothing more of this execution
	over     error // why nothing more is written, though the activity goes on
	// since is when the activity ended: the bound on retries of all that was
	// pending counts from then. The zero time: it goes on.
	since   time.Time
	state   progressState
	steps   map[string]*stepState
	tags    []string
	flushes []chan error

	// Used by run only.
	next   int64 // number of the next event
	failed error // what was not written since the last flush, and why
	// earlier are activities whose last reports were on the way when this one
	// began.
	earlier []*ActivityReporter
}

type progressState struct {
	percent        *float64
	current, total *int64
	message        string
}

type stepState struct {
	status         progress.Status
	percent        *float64
	current, total *int64
	message        string
}

// stepsMax bounds how many steps one activity may report.
const stepsMax = 1000

// Activity returns the reporter of the activity that ctx belongs to. Where
// the worker does not have the plugin it returns nil, which does nothing.
func Activity(ctx context.Context) *ActivityReporter {
	a, _ := ctx.Value(activityKey{}).(*ActivityReporter)
	return a
}

// Percent reports how far the whole run is, 0 to 100. What is reported of the
// whole run by an activity (percent, counts, message) replaces what was
// reported before, whoever did: let one at a time report it.
func (a *ActivityReporter) Percent(p float64) {
	if math.IsNaN(p) {
		return
	}
	a.progress(func(s *progressState) { s.percent = clamped(p) })
}

// Count reports that current of total things of the whole run are done, and
// the percentage with it.
func (a *ActivityReporter) Count(current, total int64) {
	a.progress(func(s *progressState) {
		s.current, s.total = &current, &total
		if p, ok := percentOf(current, total); ok {
			s.percent = p
		}
	})
}

// Message reports what the run is doing now, in a few words.
func (a *ActivityReporter) Message(text string) {
	a.progress(func(s *progressState) { s.message = bounded(text, textMax) })
}

// Tags sets the tags under which the workflow is listed, in place of those it
// had.
func (a *ActivityReporter) Tags(tags ...string) {
	a.do(func() {
		a.tags = validTags(slices.Clone(tags))
		a.progressLocked()
	})
}

// Log reports a line for people to read.
func (a *ActivityReporter) Log(line string) { a.log("", line) }

// Output reports a piece of text of the activity's own step, such as model
// tokens. All pieces together are the text.
func (a *ActivityReporter) Output(piece string) {
	if a != nil {
		a.output(a.step, piece)
	}
}

// Step begins a step of the given name within the activity, or returns the
// one that has begun. The empty name is the activity's own step, which begins
// and ends with the activity.
func (a *ActivityReporter) Step(name string) *StepReporter {
	if a == nil {
		return nil
	}
	if name == "" {
		name = a.step
	}
	name = bounded(name, nameMax)
	if name != "" {
		a.begin(name)
	}
	return &StepReporter{a, name}
}

// Flush returns when all that was reported before it is written, or could not
// be: then the error says why.
func (a *ActivityReporter) Flush(ctx context.Context) error {
	if a == nil {
		return nil
	}
	done := make(chan error, 1)
	a.mu.Lock()
	a.flushes = append(a.flushes, done)
	a.mu.Unlock()
	notify(a.urgent)
	select {
	case err := <-done:
		return err
	case <-a.ended:
		select {
		case err := <-done:
			return err
		default:
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, err := range []error{a.failed, a.refused, a.over} {
			if err != nil {
				return err
			}
		}
		return nil
	case <-ctx.Done():
		// What went wrong is told to a flush that still waits.
		a.mu.Lock()
		a.flushes = slices.DeleteFunc(a.flushes, func(c chan error) bool { return c == done })
		a.mu.Unlock()
		return ctx.Err()
	}
}

// Report reports a whole state at once, of the run or of one of its steps:
// what [WorkflowReporter.Durable] hands over.
func (a *ActivityReporter) Report(p Progress) {
	a.do(func() {
		if p.Percent != nil && math.IsNaN(*p.Percent) {
			p.Percent = nil
		} else if p.Percent != nil {
			p.Percent = clamped(*p.Percent)
		}
		p.Message = bounded(p.Message, textMax)
		if p.Step == "" {
			a.state = progressState{p.Percent, p.Current, p.Total, p.Message}
			a.progressLocked()
			return
		}
		if p.Status == "" || !stepStatus(p.Status) {
			p.Status = progress.StatusRunning
		}
		name := bounded(p.Step, nameMax)
		if s := a.stepLocked(name); s != nil {
			*s = stepState{p.Status, p.Percent, p.Current, p.Total, p.Message}
			a.writeStepLocked(name, s, "")
		}
	})
}

// StepReporter reports one step of an activity; it is safe and ignorable like
// its [ActivityReporter].
type StepReporter struct {
	a    *ActivityReporter
	name string
}

// Percent reports how far the step is, 0 to 100.
func (s *StepReporter) Percent(p float64) {
	if math.IsNaN(p) {
		return
	}
	s.change(func(st *stepState) { st.percent = clamped(p) })
}

// Count reports that current of the step's total things are done.
func (s *StepReporter) Count(current, total int64) {
	s.change(func(st *stepState) {
		st.current, st.total = &current, &total
		if p, ok := percentOf(current, total); ok {
			st.percent = p
		}
	})
}

// Message reports what the step is doing now.
func (s *StepReporter) Message(text string) {
	s.change(func(st *stepState) { st.message = bounded(text, textMax) })
}

// Log reports a line that belongs to the step.
func (s *StepReporter) Log(line string) {
	if s != nil {
		s.a.log(s.name, line)
	}
}

// Output reports a piece of the step's text.
func (s *StepReporter) Output(piece string) {
	if s != nil {
		s.a.output(s.name, piece)
	}
}

// End reports that the step is completed or, with an error, that it failed.
func (s *StepReporter) End(err error) {
	if s == nil || s.name == "" {
		return
	}
	s.a.do(func() {
		status, text := outcomeOfActivity(err)
		s.a.endLocked(s.name, status, text)
	})
}

func (s *StepReporter) change(f func(*stepState)) {
	if s == nil || s.name == "" {
		return
	}
	s.a.do(func() {
		if st := s.a.stepLocked(s.name); st != nil {
			f(st)
			s.a.writeStepLocked(s.name, st, "")
		}
	})
}

// do runs f under the lock unless the activity has ended, and wakes the
// writer.
func (a *ActivityReporter) do(f func()) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.finished {
		return
	}
	if a.refused != nil {
		a.r.count.refused.Add(1)
		return
	}
	if a.over != nil {
		a.lost(1)
		return
	}
	f()
	notify(a.wake)
}

func (a *ActivityReporter) event(t progress.EventType) progress.Event {
	e := a.id.event(t)
	e.Attempt = a.attempt
	return e
}

func (a *ActivityReporter) progress(f func(*progressState)) {
	a.do(func() {
		f(&a.state)
		a.progressLocked()
	})
}

func (a *ActivityReporter) progressLocked() {
	e := a.event(progress.TypeProgress)
	e.Percent, e.Current, e.Total, e.Message = a.state.percent, a.state.current, a.state.total, a.state.message
	e.Tags, a.tags = a.tags, nil
	a.merged(a.buffer.addState(e))
}

// begin begins the step unless it is running.
func (a *ActivityReporter) begin(name string) {
	a.do(func() {
		if s := a.steps[name]; s != nil && s.status == progress.StatusRunning {
			return
		}
		s := a.stepLocked(name)
		if s == nil {
			return
		}
		*s = stepState{status: progress.StatusRunning}
		a.writeStepLocked(name, s, "")
	})
}

func (a *ActivityReporter) endLocked(name string, status progress.Status, text string) {
	s := a.stepLocked(name)
	if s == nil {
		return
	}
	s.status = status
	if status == progress.StatusCompleted && s.percent != nil {
		s.percent = clamped(100)
	}
	a.writeStepLocked(name, s, bounded(text, textMax))
}

// stepLocked returns the state of the step; nil when there are too many.
func (a *ActivityReporter) stepLocked(name string) *stepState {
	s := a.steps[name]
	if s == nil {
		if len(a.steps) >= stepsMax {
			a.lost(1)
			a.buffer.refused++
			return nil
		}
		s = &stepState{status: progress.StatusRunning}
		a.steps[name] = s
	}
	return s
}

func (a *ActivityReporter) writeStepLocked(name string, s *stepState, text string) {
	e := a.event(progress.TypeStep)
	e.Step, e.Status, e.Percent, e.Current, e.Total, e.Message, e.Error = name, s.status, s.percent, s.current, s.total, s.message, text
	if name == a.step && s.status == progress.StatusRunning {
		e.WorkflowType = a.id.workflowType
	}
	a.merged(a.buffer.addState(e))
}

func (a *ActivityReporter) log(step, line string) {
	a.do(func() {
		e := a.event(progress.TypeLog)
		e.Step, e.Message = step, bounded(line, textMax)
		if !a.buffer.addLog(e) {
			a.lost(1)
		}
	})
}

func (a *ActivityReporter) output(step, text string) {
	a.do(func() {
		for text != "" {
			var piece string
			piece, text = cut(text, pieceMax)
			e := a.event(progress.TypeOutput)
			e.Step = step
			merged, ok := a.buffer.addOutput(e, piece)
			a.merged(merged)
			if !ok {
				a.lost(1)
			}
		}
	})
}

func (a *ActivityReporter) merged(yes bool) {
	if yes {
		a.r.count.merged.Add(1)
	}
}

func (a *ActivityReporter) lost(n int64) { a.r.count.lost.Add(n) }

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
