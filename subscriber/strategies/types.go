package strategies

import (
	"context"
	"sync"
	"time"
)

const (
	// maxTypes is how many workflows' types are kept.
	maxTypes = 10_000
	// typeAge is how long one is believed: another run under the same ID may
	// have another type.
	typeAge = time.Minute
)

// typeCache keeps workflows' types. All who ask for one at once share the
// answer.
type typeCache struct {
	ask func(context.Context, string) (string, error)

	mu    sync.Mutex
	types map[string]*knownType
}

// knownType is a type, or the question for it. Done is closed with the answer;
// what is below is not changed after.
type knownType struct {
	done  chan struct{}
	name  string
	err   error
	until time.Time
}

func newTypeCache(ask func(context.Context, string) (string, error)) *typeCache {
	return &typeCache{ask: ask, types: make(map[string]*knownType)}
}

// of returns the workflow's type. Failures are not kept.
func (c *typeCache) of(ctx context.Context, id string) (string, error) {
	c.mu.Lock()
	k := c.types[id]
	if k == nil || k.over(time.Now()) {
		k = &knownType{done: make(chan struct{})}
		c.makeRoom()
		c.types[id] = k
		c.mu.Unlock()
		// It is for all who wait, so it does not end with the first of them;
		// the deadline is the same for each.
		deadline, _ := ctx.Deadline()
		asking, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
		defer cancel()
		k.name, k.err = c.ask(asking, id)
		k.until = time.Now().Add(typeAge)
		if k.err != nil {
			c.mu.Lock()
			if c.types[id] == k {
				delete(c.types, id)
			}
			c.mu.Unlock()
		}
		close(k.done)
		return k.name, k.err
	}
	c.mu.Unlock()
	select {
	case <-k.done:
		return k.name, k.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// over reports whether the answer is too old.
func (k *knownType) over(now time.Time) bool {
	select {
	case <-k.done:
		return now.After(k.until)
	default:
		return false
	}
}

// makeRoom drops any one type where there is no room for another. The mutex is
// held.
func (c *typeCache) makeRoom() {
	if len(c.types) < maxTypes {
		return
	}
	for id := range c.types {
		delete(c.types, id)
		return
	}
}
