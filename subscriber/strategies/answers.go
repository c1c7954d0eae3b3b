package strategies

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

const (
	// maxAnswers is how many workflows' answers are kept.
	maxAnswers = 10_000
	// answerAge is how long one is believed: another run under the same ID may
	// have another type.
	answerAge = time.Minute
	// answerWait bounds how long a request waits for an answer.
	answerWait = 3 * time.Second
	// maxAsking bounds how many workflows are asked for at once: no viewer has
	// a place yet, so nothing else bounds what strangers make this node ask.
	maxAsking = 100
)

var (
	errAsking = errors.New("as many workflows are asked for as may be")
	errBroken = errors.New("the question for the workflow broke off")
)

// Later is an error of [Options.TypeOf] and [Way.Find] that others would get
// too: it is kept for After, in which nobody asks for that workflow.
type Later struct {
	// After is when it may be asked again; above 0.
	After time.Duration
	// Err is the cause; nil where that has been said to another.
	Err error
}

func (l *Later) Error() string {
	if l.Err == nil {
		return fmt.Sprintf("nobody asks for %v", l.After)
	}
	return l.Err.Error()
}

// Unwrap returns the cause.
func (l *Later) Unwrap() error { return l.Err }

// answers keeps what was answered of workflows. All who ask for one at once
// share the answer.
type answers struct {
	ask func(context.Context, string) (string, error)
	// missingAge is how long it is believed that there is no such workflow; 0:
	// it is not.
	missingAge time.Duration

	mu     sync.Mutex
	kept   map[string]*answer
	asking int
}

// answer is an answer, or the question for it. Done is closed with the answer;
// what is below is not changed after.
type answer struct {
	done  chan struct{}
	text  string
	err   error
	until time.Time
}

func newAnswers(ask func(context.Context, string) (string, error), missingAge time.Duration) *answers {
	return &answers{ask: ask, missingAge: missingAge, kept: make(map[string]*answer)}
}

// of returns the answer for a workflow, within [answerWait]. No failure is kept
// but that there is no such workflow, and a [Later], whose cause is told once.
func (c *answers) of(ctx context.Context, id string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	c.mu.Lock()
	k := c.kept[id]
	if k == nil || k.over(time.Now()) {
		if c.asking >= maxAsking {
			c.mu.Unlock()
			return "", errAsking
		}
		c.asking++
		k = &answer{done: make(chan struct{}), err: errBroken}
		c.makeRoom()
		c.kept[id] = k
		c.mu.Unlock()
		c.learn(ctx, id, k)
		return k.text, k.err
	}
	c.mu.Unlock()
	select {
	case <-k.done:
		if _, ok := errors.AsType[*Later](k.err); ok {
			return "", &Later{After: max(time.Until(k.until), time.Nanosecond)}
		}
		return k.text, k.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// learn asks, for all who wait: so it does not end with the first of them.
func (c *answers) learn(ctx context.Context, id string, k *answer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWait)
	defer cancel()
	// Also where asking panics, so that nobody waits for its answer.
	defer func() {
		c.mu.Lock()
		c.asking--
		if k.until.IsZero() && c.kept[id] == k {
			delete(c.kept, id)
		}
		c.mu.Unlock()
		close(k.done)
	}()
	k.text, k.err = c.ask(ctx, id)
	later, refused := errors.AsType[*Later](k.err)
	switch {
	case k.err == nil:
		k.until = time.Now().Add(answerAge)
	case c.missingAge > 0 && errors.Is(k.err, progress.ErrNotFound):
		k.until = time.Now().Add(c.missingAge)
	case refused:
		k.until = time.Now().Add(later.After)
	}
}

// has reports whether there is an answer, and it is that there is a workflow.
func (c *answers) has(id string) bool {
	c.mu.Lock()
	k := c.kept[id]
	c.mu.Unlock()
	if k == nil || k.over(time.Now()) {
		return false
	}
	select {
	case <-k.done:
		return k.err == nil
	default:
		return false
	}
}

// over reports whether the answer is too old.
func (k *answer) over(now time.Time) bool {
	select {
	case <-k.done:
		return now.After(k.until)
	default:
		return false
	}
}

// makeRoom drops any one answer where there is no room for another. The mutex
// is held.
func (c *answers) makeRoom() {
	if len(c.kept) < maxAnswers {
		return
	}
	for id := range c.kept {
		delete(c.kept, id)
		return
	}
}
