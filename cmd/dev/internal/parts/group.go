// Package parts owns the parts of a process that runs several programs: it
// knows which are ready, and stops them in order.
package parts

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Group owns the parts of the process. The zero value is ready to use.
type Group struct {
	mu     sync.Mutex
	parts  []part
	failed chan struct{} // closed when a part has ended by itself
}

type part struct {
	name string
	// stop ends the part and waits for it, or gives up when ctx is done.
	stop func(context.Context) error
}

// Add takes a part that runs already.
func (g *Group) Add(name string, stop func(context.Context) error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.parts = append(g.parts, part{name, stop})
}

// Failed is closed when a part that Go started has failed by itself.
func (g *Group) Failed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failed == nil {
		g.failed = make(chan struct{})
	}
	return g.failed
}

// fail notes that a part has failed; the first one counts.
func (g *Group) fail() {
	failed := g.Failed()
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-failed:
	default:
		close(g.failed)
	}
}

// Go runs a part until it is stopped, which ends the context it is given.
func (g *Group) Go(name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := run(ctx)
		if err != nil && ctx.Err() == nil {
			g.fail()
		}
		done <- err
	}()
	g.Add(name, func(stopCtx context.Context) error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-stopCtx.Done():
			return fmt.Errorf("it did not stop: %w", context.Cause(stopCtx))
		}
	})
}

// Stop stops all parts, those first that were added last.
func (g *Group) Stop(ctx context.Context) error {
	g.mu.Lock()
	parts := g.parts
	g.parts = nil
	g.mu.Unlock()
	var errs []error
	for i := len(parts) - 1; i >= 0; i-- {
		if err := parts[i].stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", parts[i].name, err))
		}
	}
	return errors.Join(errs...)
}
