// Package follow feeds a hub from a way to follow single workflows: whatever
// the number of viewers, a workflow is followed once.
//
// It knows neither Temporal nor Redis: the way is a [Watcher].
package follow

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/subscriber/hub"
)

// Watcher is one way to follow a workflow.
type Watcher interface {
	// Watch yields what happens to a workflow after a position, the oldest
	// first: each event carries the whole state, its epoch is when its run
	// began, in Unix ms, and its seq is the version, which may jump. The zero
	// position begins with the state as it is. A closed event is the last.
	//
	// A [Notice] is no end; every other error is: [progress.ErrNotFound] where
	// there is no such workflow, [ErrRefused] where it cannot be followed this
	// way. When the context ends, so does the sequence, soon.
	Watch(ctx context.Context, workflowID string, after progress.Position) iter.Seq2[progress.Event, error]
}

// ErrRefused is the class of the error that a workflow cannot be followed
// this way. Its text says why, for people.
var ErrRefused = errors.New("the workflow cannot be followed this way")

// Refuse returns err as an error of the class [ErrRefused].
func Refuse(err error) error { return &refusal{err} }

type refusal struct{ error }

func (r *refusal) Unwrap() []error { return []error{ErrRefused, r.error} }

// Notice tells that a sequence goes on, but not as well as it should.
type Notice struct {
	hub.Notice
	// Cause is for the log, and no viewer's: it may name addresses. Or nil.
	Cause error
}

// Live is the kind of a [Notice] that what was stale or degraded is not any
// more, though there may be nothing new.
const Live hub.Reason = "live"

func (n *Notice) Error() string {
	return fmt.Sprintf("%s since %s: %s", n.Kind, n.Since.UTC().Format(time.RFC3339), n.Detail)
}

// Sink is what is fed: a hub.
type Sink interface {
	Message(progress.Topic, []byte)
	Notice(progress.Topic, hub.Notice)
	Resolve(progress.Topic, hub.Reason)
}

// Options of a source.
type Options struct {
	Watcher Watcher
	// Max bounds how many workflows are followed at a time; [DefaultMax]. Who
	// asks for another one is refused with an error that wraps [hub.ErrFull].
	Max int
	// Again is how long until a workflow that has ended, or cannot be
	// followed, is asked for again, should somebody still wait; 2 s.
	Again time.Duration
	// Logger is told of failures; nil is nobody.
	Logger *slog.Logger
}

// DefaultMax is how many workflows are followed at a time unless told
// otherwise: each may cost its server several calls a second.
const DefaultMax = 1000

// errFull refuses a workflow beyond [Options.Max].
var errFull = fmt.Errorf("as many workflows are followed as may be: %w", hub.ErrFull)

// Stats are counters; they only rise, but for Upstreams.
type Stats struct {
	// Upstreams is how many workflows are followed now, Begun how many
	// sequences were begun: more than one for one workflow after a failure.
	Upstreams, Begun atomic.Int64
	// Events counts what was new, Known what was not, Bad what had no version.
	Events, Known, Bad atomic.Int64
	// Skipped counts the versions that were jumped over, since a newer one
	// came first.
	Skipped atomic.Int64
	// Stale and Degraded count the notices, Failures the sequences that ended
	// with an error, Refused the workflows that could not be followed.
	Stale, Degraded, Failures, Refused atomic.Int64
}

// Source is a sparse source of a hub; see [hub.Options]. Between Feed and
// Close it has a goroutine for each workflow that was added; one beyond the
// bound only waits for a place.
type Source struct {
	o     Options
	stats Stats

	mu        sync.Mutex
	sink      Sink // nil until Feed, and after Close
	upstreams map[string]*upstream
	// placed is how many of them follow, or have a place to.
	placed int
}

// New returns a source that feeds nobody yet.
func New(o Options) *Source {
	if o.Again == 0 {
		o.Again = 2 * time.Second
	}
	if o.Max == 0 {
		o.Max = DefaultMax
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Source{o: o, upstreams: make(map[string]*upstream)}
}

// Feed says who is fed. It is called once, before anything is added.
func (s *Source) Feed(sink Sink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sink = sink
}

// Close ends what is followed and waits for it.
func (s *Source) Close() error {
	s.mu.Lock()
	s.sink = nil
	var names []progress.Topic
	for _, u := range s.upstreams {
		names = append(names, u.name)
	}
	s.mu.Unlock()
	for _, name := range names {
		s.Remove(name)
	}
	return nil
}

// Stats returns the counters.
func (s *Source) Stats() *Stats { return &s.stats }

var (
	errNoTag = errors.New("tags cannot be followed this way")
	errNone  = errors.New("the workflow is not followed")
	errOver  = errors.New("nothing is followed before the service starts, or after it stops")
)

// Add implements [hub.Source]: it begins to follow, and returns at once.
func (s *Source) Add(_ context.Context, name progress.Topic) error {
	if name.Kind != progress.TopicWorkflow {
		return errNoTag
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sink == nil {
		return errOver
	}
	if s.upstreams[name.Name] != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	u := &upstream{
		source: s, sink: s.sink, name: name, cancel: cancel,
		done: make(chan struct{}), told: make(chan struct{}), heard: time.Now(),
	}
	s.upstreams[name.Name] = u
	go u.run(ctx)
	return nil
}

// Remove implements [hub.Source]. It returns when nothing is followed any
// more.
func (s *Source) Remove(name progress.Topic) {
	s.mu.Lock()
	u := s.upstreams[name.Name]
	s.mu.Unlock()
	if u == nil {
		return
	}
	u.cancel()
	<-u.done
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.upstreams[name.Name] == u {
		delete(s.upstreams, name.Name)
	}
}

// place takes a place for one workflow, which it keeps until leave, also while
// it is not followed for a moment. It reports whether there was one.
func (s *Source) place() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.placed >= s.o.Max {
		return false
	}
	s.placed++
	s.stats.Upstreams.Add(1)
	return true
}

func (s *Source) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.placed--
	s.stats.Upstreams.Add(-1)
}

// Read implements [hub.Source]. It waits until something is known of the
// workflow, were it only that nothing can be learned.
func (s *Source) Read(ctx context.Context, id string, _ int64, _ int) (progress.View, error) {
	u := s.upstream(id)
	if u == nil {
		return progress.View{}, errNone
	}
	select {
	case <-u.told:
		return u.view(), nil
	case <-ctx.Done():
		return progress.View{}, errors.Join(ctx.Err(), u.failed())
	}
}

// Refused returns why a workflow cannot be followed, or nil: it is, or that is
// not known yet.
func (s *Source) Refused(id string) error {
	if u := s.upstream(id); u != nil {
		return u.refused()
	}
	return nil
}

func (s *Source) upstream(id string) *upstream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.upstreams[id]
}

// Heads implements [hub.Source]: there is no store to ask.
func (s *Source) Heads(_ context.Context, ids []string) ([]progress.Position, error) {
	heads := make([]progress.Position, len(ids))
	for i := range heads {
		heads[i] = progress.UnknownPosition
	}
	return heads, nil
}

// TagSummaries implements [hub.Source]: there are none.
func (s *Source) TagSummaries(context.Context, string, int) ([]progress.Summary, error) {
	return nil, errNoTag
}
