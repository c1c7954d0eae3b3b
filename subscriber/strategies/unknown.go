package strategies

import (
	"context"
	"errors"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

// storeWait is how long a request waits for the store, to find out whether it
// has anything of the workflow: as long as one with a position does in a
// subscriber.
const storeWait = 2 * time.Second

// missingAge is how long it is believed that there is no such workflow, so that
// those who come together share one question. A run that begins meanwhile
// shows in the store, and nobody asks.
const missingAge = 2 * time.Second

// unknown returns what is asked about a workflow of which the store has
// nothing; nil: the way asks nobody.
func (s *Service) unknown(w *way) func(context.Context, string) error {
	if w.Find == nil {
		return nil
	}
	found := newAnswers(func(ctx context.Context, id string) (string, error) { return "", w.Find(ctx, id) }, missingAge)
	return func(ctx context.Context, id string) error {
		if s.types.has(id) {
			return nil // it was asked for its type just now
		}
		_, err := found.of(ctx, id)
		if err == nil || errors.Is(err, progress.ErrNotFound) {
			return err
		}
		// It is not known that there is none.
		later, refused := errors.AsType[*Later](err)
		if s.o.Logger != nil && ctx.Err() == nil && (!refused || later.Err != nil) {
			s.o.Logger.Warn("whether there is a workflow cannot be learned; its viewers wait for it", "strategy", w.Name, "error", err)
		}
		return nil
	}
}
