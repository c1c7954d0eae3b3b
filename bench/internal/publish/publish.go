// Package publish writes events through the store, as a worker does, at a
// steady rate.
package publish

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

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
}

// writers is how many appends are under way at a time, at most; of one
// workflow it is one.
const writers = 16

// Open connects to Redis.
func Open(ctx context.Context, redisAddr string, workflows []string) (*Publisher, error) {
	store, err := redisstore.Open(ctx, "redis://"+redisAddr, redisstore.Options{})
	if err != nil {
		return nil, err
	}
	return &Publisher{
		store: store, workflows: workflows, run: "6c1f0a52-3f57-4b0e-9d3e-5b2f8c7a1e90",
		began: time.Now(), heads: make([]progress.Position, len(workflows)),
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

// Position returns where the i-th workflow is.
func (p *Publisher) Position(i int) progress.Position { return p.heads[i] }

// Append writes n events of the i-th workflow in one call. Each carries the
// time of the call.
func (p *Publisher) Append(ctx context.Context, i, n int) error {
	id := p.workflows[i]
	first := p.heads[i].Seq + 1
	events := make([]progress.Event, n)
	for k := range events {
		seq := first + int64(k)
		percent, current, total := float64(seq%100), seq, int64(1_000_000)
		events[k] = progress.Event{
			WorkflowID: id, RunID: p.run, Chain: p.run, Type: progress.TypeProgress, Time: time.Now(),
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
	if res.Position.Seq != first+int64(n)-1 || res.Duplicate {
		return fmt.Errorf("publish: the stream of %s is at %s; somebody else writes to it", id, res.Position)
	}
	p.heads[i] = res.Position
	return nil
}

// Steady writes rate events a second of each workflow, for that long: each
// workflow gets the same number, evenly over the time. It returns how many
// they were for each, and how long it really took.
func (p *Publisher) Steady(ctx context.Context, rate float64, during time.Duration) (each int, took time.Duration, err error) {
	each = max(int(rate*during.Seconds()+.5), 1)
	step := time.Duration(float64(time.Second) / rate)
	begin := time.Now()
	errs := make([]error, min(writers, len(p.workflows)))
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() { errs[w] = p.write(ctx, w, len(errs), each, step, begin) })
	}
	wg.Wait()
	return each, time.Since(begin), errors.Join(errs...)
}

// write is one writer: workflows w, w+of, … in turn. Of one workflow what is
// due goes in one call, as the reporter merges it.
func (p *Publisher) write(ctx context.Context, w, of, each int, step time.Duration, begin time.Time) error {
	n := len(p.workflows)
	for k := 0; k < each; {
		due := 1
		for i := w; i < n; i += of {
			at := begin.Add(step*time.Duration(k) + step*time.Duration(i)/time.Duration(n))
			if wait := time.Until(at); wait > 0 {
				time.Sleep(wait)
			} else if n == 1 {
				due = min(int(-wait/step)+1, each-k, redisstore.MaxEvents)
			}
			if err := p.Append(ctx, i, due); err != nil {
				return err
			}
		}
		k += due
	}
	return nil
}
