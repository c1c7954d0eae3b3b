package reporter

import (
	"context"
	"sync"
)

// tasks owns the reporter's goroutines: each is started through it and ends
// when its work is done or, at the latest, when stop ends its context.
type tasks struct {
	mu     sync.Mutex
	ctx    context.Context
	cancel context.CancelFunc
	n      int
	idle   chan struct{} // closed while n is 0
}

func (t *tasks) init() {
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.idle = make(chan struct{})
	close(t.idle)
}

// start runs f in a goroutine.
func (t *tasks) start(f func(ctx context.Context)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n == 0 {
		t.idle = make(chan struct{})
	}
	t.n++
	ctx := t.ctx
	go func() {
		defer t.done()
		f(ctx)
	}()
}

func (t *tasks) done() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n--
	if t.n == 0 {
		close(t.idle)
	}
}

// wait returns when no goroutine runs, or with ctx's error.
func (t *tasks) wait(ctx context.Context) error {
	t.mu.Lock()
	idle := t.idle
	t.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop waits like wait, then ends the context of what still runs and waits
// for it. It returns how many had to be stopped.
func (t *tasks) stop(ctx context.Context) int {
	t.wait(ctx)
	t.mu.Lock()
	left := t.n
	cancel := t.cancel
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.mu.Unlock()
	cancel()
	if left > 0 {
		t.wait(context.Background())
	}
	return left
}
