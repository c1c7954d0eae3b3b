// Package publish writes events through the store, as a worker does, at a
// steady rate.
package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// Publisher writes events of some workflows. One call at a time.
type Publisher struct {
	store     *redisstore.Store
	workflows []string
	run       string
	began     time.Time
	heads     []progress.Position
	keep      int
	kept      []progress.Position
}

// writers is how many appends are under way at a time, at most; of one
// workflow it is one.
const writers = 16

// Open connects to Redis. The last keep positions of the first workflow are
// remembered, and its stream holds as many events at least.
func Open(ctx context.Context, redisAddr string, workflows []string, keep int) (*Publisher, error) {
	o := redisstore.Options{}
	if keep > 0 {
		o.MaxLen = int64(redisstore.DefaultMaxLen + 2*keep)
	}
	store, err := redisstore.Open(ctx, "redis://"+redisAddr, o)
	if err != nil {
		return nil, err
	}
	return &Publisher{
		store: store, workflows: workflows, run: "6c1f0a52-3f57-4b0e-9d3e-5b2f8c7a1e90",
		began: time.Now(), heads: make([]progress.Position, len(workflows)), keep: keep,
	}, nil
}

// Close ends the connections.
func (p *Publisher) Close() error { return p.store.Close() }

// Heads returns the last seq of each workflow.
func (p *Publisher) Heads() []int64 {
	seqs := make([]int64, len(p.heads))
	for i, h := range p.heads {
		seqs[i] = h.Seq
	}
	return seqs
}

// Positions returns where the first workflow was, the oldest first: as many as
// are remembered.
func (p *Publisher) Positions() []progress.Position { return slices.Clone(p.kept) }

// Append writes an event of the i-th workflow for each of the times, all in
// one call.
func (p *Publisher) Append(ctx context.Context, i int, times ...time.Time) error {
	id := p.workflows[i]
	first := p.heads[i].Seq + 1
	events := make([]progress.Event, len(times))
	for k := range events {
		seq := first + int64(k)
		percent, current, total := float64(seq%100), seq, int64(1_000_000)
		events[k] = progress.Event{
			WorkflowID: id, RunID: p.run, Chain: p.run, Type: progress.TypeProgress, Time: times[k],
			Percent: &percent, Current: &current, Total: &total, Message: "packing the boxes",
		}
	}
	res, err := p.store.Append(ctx, redisstore.Append{
		WorkflowID: id, Fence: redisstore.Fence{RunID: p.run, Chain: p.run, RunTime: p.began},
		Producer: redisstore.Producer{Name: "load", Started: p.began, Attempt: 1}, Number: first, Events: events,
	})
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if res.Position.Seq != first+int64(len(times))-1 || res.Duplicate {
		return fmt.Errorf("publish: the stream of %s is at %s; somebody else writes to it", id, res.Position)
	}
	p.heads[i] = res.Position
	if i == 0 && p.keep > 0 {
		p.kept = append(p.kept, res.Position)
		if over := len(p.kept) - p.keep; over > 0 {
			p.kept = slices.Delete(p.kept, 0, over)
		}
	}
	return nil
}

// Stretch is what [Publisher.Steady] did.
type Stretch struct {
	// Each is how many events each workflow got, Took how long that was.
	Each int
	Took time.Duration
	// Appends were made. There are fewer than events when a writer was late:
	// what was due meanwhile then goes in one call.
	Appends int64
	// Latest is how long after its time the most belated append was begun.
	Latest time.Duration
}

// Steady writes rate events a second of each workflow, for that long: each
// workflow gets the same number, evenly over the time. An event carries the
// time when it was due, so that a late writer makes the figures worse, and
// not better.
func (p *Publisher) Steady(ctx context.Context, rate float64, during time.Duration) (Stretch, error) {
	each := max(int(rate*during.Seconds()+.5), 1)
	step := time.Duration(float64(time.Second) / rate)
	begin := time.Now()
	parts := make([]Stretch, min(writers, len(p.workflows)))
	errs := make([]error, len(parts))
	var wg sync.WaitGroup
	for w := range parts {
		wg.Go(func() { errs[w] = p.write(ctx, &parts[w], w, len(parts), each, step, begin) })
	}
	wg.Wait()
	s := Stretch{Each: each, Took: time.Since(begin)}
	for _, part := range parts {
		s.Appends += part.Appends
		s.Latest = max(s.Latest, part.Latest)
	}
	return s, errors.Join(errs...)
}

// write is one writer: workflows w, w+of, … in turn. Of one workflow what is
// due goes in one call, as the reporter merges it.
func (p *Publisher) write(ctx context.Context, s *Stretch, w, of, each int, step time.Duration, begin time.Time) error {
	n := len(p.workflows)
	times := make([]time.Time, 0, redisstore.MaxEvents)
	for k := 0; k < each; k += len(times) {
		for i := w; i < n; i += of {
			at := begin.Add(step*time.Duration(k) + step*time.Duration(i)/time.Duration(n))
			times = append(times[:0], at)
			if late := time.Since(at); late < 0 {
				sleepUntil(at)
			} else if n == 1 {
				for len(times) < min(each-k, redisstore.MaxEvents) && time.Duration(len(times))*step <= late {
					times = append(times, at.Add(step*time.Duration(len(times))))
				}
			}
			s.Latest = max(s.Latest, time.Since(at))
			s.Appends++
			if err := p.Append(ctx, i, times...); err != nil {
				return err
			}
		}
	}
	return nil
}

// sleepUntil returns at that time, or some microseconds later: time.Sleep is
// late by up to a millisecond, which would stand in every latency.
func sleepUntil(at time.Time) {
	for wait := time.Until(at); wait > 0; wait = time.Until(at) {
		ts := unix.NsecToTimespec(wait.Nanoseconds())
		_ = unix.Nanosleep(&ts, nil) // a signal wakes it early
	}
}
