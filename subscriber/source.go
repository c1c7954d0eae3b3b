package subscriber

import (
	"context"
	"errors"
	"sync"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// source feeds the hub from the store. The subscription exists from Start on;
// a hub that is not started yet adds no topic.
type source struct {
	*redisstore.Store

	mu  sync.Mutex
	sub *redisstore.Subscription
}

func (s *source) subscribe(sink redisstore.Sink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sub = s.Store.Subscribe(sink)
}

func (s *source) subscription() *redisstore.Subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sub
}

var errNotStarted = errors.New("the service is not started")

// Add implements hub.Source.
func (s *source) Add(ctx context.Context, t progress.Topic) error {
	if sub := s.subscription(); sub != nil {
		return sub.Add(ctx, t)
	}
	return errNotStarted
}

// Remove implements hub.Source.
func (s *source) Remove(t progress.Topic) {
	if sub := s.subscription(); sub != nil {
		sub.Remove(t)
	}
}

func (s *source) close() error {
	if sub := s.subscription(); sub != nil {
		return sub.Close()
	}
	return nil
}
