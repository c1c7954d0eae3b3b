package parts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Readiness knows which parts are not ready yet. The zero value is ready to
// use.
type Readiness struct {
	mu      sync.Mutex
	waiting []string
	changed chan struct{} // closed and made anew with every change
}

// Expect names a part that is to become ready, and returns what it calls
// when it is.
func (r *Readiness) Expect(name string) (ready func(addr string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(r.waiting, name)
	return func(string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.waiting = slices.DeleteFunc(r.waiting, func(w string) bool { return w == name })
		if r.changed != nil {
			close(r.changed)
			r.changed = nil
		}
	}
}

// Err says what is not ready; nil: nothing.
func (r *Readiness) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == 0 {
		return nil
	}
	return fmt.Errorf("not ready yet: %s", strings.Join(r.waiting, ", "))
}

// ErrFailed stands for the failure of a part, which its group reports.
var ErrFailed = errors.New("a part failed")

// Wait returns when all parts are ready, or why they will not be.
func (r *Readiness) Wait(ctx context.Context, failed <-chan struct{}) error {
	for {
		r.mu.Lock()
		if len(r.waiting) == 0 {
			r.mu.Unlock()
			return nil
		}
		if r.changed == nil {
			r.changed = make(chan struct{})
		}
		changed := r.changed
		r.mu.Unlock()
		select {
		case <-changed:
		case <-failed:
			return errors.Join(ErrFailed, r.Err())
		case <-ctx.Done():
			return errors.Join(ctx.Err(), r.Err())
		}
	}
}
