package reporter

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"testing"
)

// partlyListed is a store of which a part of the list cannot be read.
type partlyListed struct {
	ReconcileStore
	ids []string
	err error
}

func (s *partlyListed) Running(context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if !yield("", s.err) {
			return
		}
		for _, id := range s.ids {
			if !yield(id, nil) {
				return
			}
		}
	}
}

// One shard of the list that is spoiled keeps no other workflow from being
// closed.
func TestReconcilerListsWhatItCan(t *testing.T) {
	broken := errors.New("WRONGTYPE")
	rec := &reconciler{r: &Reporter{}, store: &partlyListed{ids: []string{"b", "a", "b"}, err: broken}}
	rec.r.opt.logger = slog.New(slog.DiscardHandler)
	if ids, err := rec.running(t.Context()); err != nil || !slices.Equal(ids, []string{"a", "b"}) {
		t.Errorf("%q, %v", ids, err)
	}
	rec.store = &partlyListed{err: broken}
	if ids, err := rec.running(t.Context()); !errors.Is(err, broken) {
		t.Errorf("a list of which nothing can be read: %q, %v", ids, err)
	}
}
