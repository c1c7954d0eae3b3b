package subscriber

import (
	"context"
	"errors"
	"sync"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/subscriber/hub"
)

// Source feeds a hub from the store. The subscription exists from Feed on;
// before, no topic can be added.
type Source struct {
	storeReader

	store *redisstore.Store
	mu    sync.Mutex
	sub   *redisstore.Subscription
}

// storeReader is what a hub reads of the store.
type storeReader interface {
	Read(ctx context.Context, id string, from int64, limit int) (progress.View, error)
	Heads(ctx context.Context, ids []string) ([]progress.Position, error)
	TagSummaries(ctx context.Context, tag string, limit int) ([]progress.Summary, error)
}

var _ hub.Source = (*Source)(nil)

// NewSource returns a source on a store, which it does not close.
func NewSource(store *redisstore.Store) *Source {
	return &Source{storeReader: store, store: store}
}

// Feed subscribes. It is called once.
func (s *Source) Feed(sink redisstore.Sink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sub = s.store.Subscribe(sink)
}

func (s *Source) subscription() *redisstore.Subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sub
}

var errNotStarted = errors.New("the service is not started")

// Add implements [hub.Source].
func (s *Source) Add(ctx context.Context, t progress.Topic) error {
	if sub := s.subscription(); sub != nil {
		return sub.Add(ctx, t)
	}
	return errNotStarted
}

// Remove implements [hub.Source].
func (s *Source) Remove(t progress.Topic) {
	if sub := s.subscription(); sub != nil {
		sub.Remove(t)
	}
}

// Close ends the subscription.
func (s *Source) Close() error {
	if sub := s.subscription(); sub != nil {
		return sub.Close()
	}
	return nil
}
