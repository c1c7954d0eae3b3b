// Package redischeck waits for a program's Redis and refuses one that would
// lose progress.
package redischeck

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

// Store is what is checked; redisstore.Store has it. An error that wraps
// [progress.ErrUnavailable] means that the server is not there; any other
// that it is the wrong one.
type Store interface {
	CheckServer(ctx context.Context) error
}

const (
	askFor     = 2 * time.Second // bounds one question
	retryAfter = time.Second
	logEvery   = 60 // attempts
)

// Start begins to ask, in the background, until the server has answered or
// ctx ends. If it is one that would lose progress, the returned context ends
// with a cause that says so: better not to start than to lose later. The
// returned function ends the context and waits.
func Start(ctx context.Context, store Store, logger *slog.Logger) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := Await(ctx, store, func(err error) {
			logger.Warn("Redis is not there yet; will try again", "error", err)
		})
		if err != nil && ctx.Err() == nil {
			cancel(err)
		}
	}()
	return ctx, func() {
		cancel(context.Canceled)
		<-done
	}
}

// Await returns nil once the server has answered and is the right one, and an
// error if it would lose progress, or if ctx ends before. While the server is
// not there it calls away, at once and then about once a minute.
func Await(ctx context.Context, store Store, away func(error)) error {
	for n := 0; ; n++ {
		attempt, cancel := context.WithTimeout(ctx, askFor)
		err := store.CheckServer(attempt)
		late := attempt.Err() != nil
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("wait for Redis: %w", ctx.Err())
		case !late && !errors.Is(err, progress.ErrUnavailable):
			return fmt.Errorf("check Redis: %w", err)
		case n%logEvery == 0:
			away(err)
		}
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
			return fmt.Errorf("wait for Redis: %w", ctx.Err())
		}
	}
}

// Cause returns why ctx ended, if for another reason than that the program
// was told to stop.
func Cause(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
