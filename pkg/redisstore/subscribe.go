package redisstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/progress"
)

// Sink takes what a subscription receives. Its methods are called from the
// loops that read the connections, so they must not block. Messages of one
// topic come one at a time; a Resync may come beside them.
type Sink interface {
	// Message hands over one published message: for a workflow an event in
	// wire form, for a tag a summary. The sink may keep data, unchanged.
	Message(t progress.Topic, data []byte)
	// Resync says that messages of the topic may have been missed: the
	// connection was lost, the topic has moved to another node, or it is
	// about to. The subscription is in place again, or still; read the
	// stream.
	Resync(t progress.Topic)
}

// The waits between attempts to connect to a node again.
const (
	minBackoff = 20 * time.Millisecond
	maxBackoff = 250 * time.Millisecond
)

// errRemoved and errStopped end an Add that waits.
var (
	errRemoved = errors.New("the topic was removed")
	errStopped = errors.New("the subscription is closed")
)

// Subscription receives the messages of many topics. A single server, or the
// primary behind Sentinel, takes one connection; a cluster takes one per node
// that owns a topic's slot, with sharded pub/sub.
//
// Goroutines: one router, which finds each topic's node; on a cluster one
// watcher, which asks the masters once a second who has which slot; per
// connection ("link") one reader, which owns its life, and one writer. Close
// ends all.
type Subscription struct {
	store   *Store
	sink    Sink
	ctx     context.Context // ended by Close
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	wake    chan struct{} // tells the router; one pending wake-up is enough
	recheck chan struct{} // tells the watcher, likewise

	mu      sync.Mutex
	closed  bool
	topics  map[string]*topicState // by channel
	pending map[string]*topicState // those without a link
	links   map[string]*link       // by node; "" on a single server
	trouble map[string]*trouble    // by node, of those that failed last
	layout  *layout                // nil unless a cluster's is known
}

// trouble is what happened to a node since it last confirmed anything.
type trouble struct {
	failures int
	retryAt  time.Time
}

// topicState is a topic that is wanted. The subscription's mutex guards it.
type topicState struct {
	topic     progress.Topic
	channel   string
	slot      int           // on a cluster only
	link      *link         // nil while pending
	confirmed chan struct{} // closed with the first confirmation
	removed   chan struct{} // closed by Remove and Close
	resync    bool          // it was confirmed before, by a link now lost
	refusals  int           // in a row, by a node that takes no subscription
	retryAt   time.Time     // while pending: not before
}

// Subscribe returns a subscription without topics. Close it before the store.
func (s *Store) Subscribe(sink Sink) *Subscription {
	ctx, cancel := context.WithCancel(context.Background())
	sub := &Subscription{
		store: s, sink: sink, ctx: ctx, cancel: cancel,
		wake: make(chan struct{}, 1), recheck: make(chan struct{}, 1),
		topics: map[string]*topicState{}, pending: map[string]*topicState{},
		links: map[string]*link{}, trouble: map[string]*trouble{},
	}
	sub.wg.Go(sub.route)
	if s.cluster != nil {
		sub.wg.Go(sub.watch)
	}
	return sub
}

// Add subscribes to a topic and returns when Redis has confirmed it: what is
// published from then on arrives at the sink. If ctx ends before, the topic
// is not subscribed. Adding a topic again waits for the same confirmation.
func (sub *Subscription) Add(ctx context.Context, t progress.Topic) error {
	if err := checkTopic(t); err != nil {
		return err
	}
	if sub.store.single == nil && sub.store.cluster == nil {
		return fmt.Errorf("%w: a %T cannot subscribe; give New a redis.Client or a redis.ClusterClient", progress.ErrInvalid, sub.store.client)
	}
	channel := sub.store.keys.channel(t)
	sub.mu.Lock()
	if sub.closed {
		sub.mu.Unlock()
		return errStopped
	}
	ts := sub.topics[channel]
	if ts == nil {
		ts = &topicState{
			topic: t, channel: channel, slot: slotOf(channel),
			confirmed: make(chan struct{}), removed: make(chan struct{}),
		}
		sub.topics[channel] = ts
		sub.pending[channel] = ts
	}
	sub.mu.Unlock()
	sub.wakeRouter()
	select {
	case <-ts.confirmed:
		return nil
	case <-ts.removed:
		if sub.ctx.Err() != nil {
			return errStopped
		}
		return errRemoved
	case <-ctx.Done():
		select {
		case <-ts.confirmed:
			return nil
		default:
		}
		sub.remove(ts)
		return fmt.Errorf("subscribe to %s: %w: %w", channel, progress.ErrUnavailable, context.Cause(ctx))
	}
}

// Remove ends the subscription to a topic. A message that is already under
// way may still arrive.
func (sub *Subscription) Remove(t progress.Topic) {
	sub.mu.Lock()
	ts := sub.topics[sub.store.keys.channel(t)]
	sub.mu.Unlock()
	if ts != nil {
		sub.remove(ts)
	}
}

func (sub *Subscription) remove(ts *topicState) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if sub.topics[ts.channel] != ts {
		return
	}
	delete(sub.topics, ts.channel)
	delete(sub.pending, ts.channel)
	close(ts.removed)
	if ts.link != nil {
		ts.link.enqueue(op{channel: ts.channel})
	}
}

// Close ends the subscription and waits for its goroutines; no method of the
// sink is called afterwards. It may be called twice.
func (sub *Subscription) Close() error {
	sub.mu.Lock()
	if !sub.closed {
		sub.closed = true
		for _, ts := range sub.topics {
			close(ts.removed)
		}
		clear(sub.topics)
		clear(sub.pending)
	}
	sub.mu.Unlock()
	sub.cancel()
	sub.wg.Wait()
	return nil
}

func (sub *Subscription) wakeRouter() { signal(sub.wake) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// route gives every pending topic to the link of its node, and makes links.
func (sub *Subscription) route() {
	for {
		var retry <-chan time.Time
		if next := sub.assign(); !next.IsZero() {
			retry = time.After(time.Until(next))
		}
		select {
		case <-sub.wake:
		case <-retry:
		case <-sub.ctx.Done():
			return
		}
	}
}

// assign routes what is pending, all at once, so that a link's writer sees
// together what goes into one command. It returns when to come again; zero
// where nothing is left over that time would help.
func (sub *Subscription) assign() (next time.Time) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	now := time.Now()
	for _, ts := range sub.pending {
		node, at := "", ts.retryAt
		if sub.store.cluster != nil {
			if node = sub.layout.of(ts.slot); node == "" {
				signal(sub.recheck) // a new layout wakes the router
				continue
			}
		}
		if t := sub.trouble[node]; t != nil && t.retryAt.After(at) {
			at = t.retryAt
		}
		if at.After(now) {
			if next.IsZero() || at.Before(next) {
				next = at
			}
			continue
		}
		sub.give(ts, node)
	}
	return next
}

// give is called with the mutex held.
func (sub *Subscription) give(ts *topicState, node string) {
	delete(sub.pending, ts.channel)
	l := sub.links[node]
	if l == nil {
		l = newLink(sub, node)
		sub.links[node] = l
		sub.wg.Go(l.read)
	}
	ts.link = l
	l.enqueue(op{channel: ts.channel, ts: ts})
}

// confirm notes that Redis has confirmed a channel on a link, and tells the
// sink if it was confirmed before.
func (sub *Subscription) confirm(l *link, channel string) {
	sub.mu.Lock()
	delete(sub.trouble, l.node)
	ts, passed := l.confirmed(channel)
	for _, c := range passed {
		sub.giveBack(l, c)
	}
	if ts == nil || sub.topics[channel] != ts || ts.link != l {
		sub.mu.Unlock()
		return // removed meanwhile, or added again: a later confirmation counts
	}
	resync := ts.resync
	ts.resync, ts.refusals = true, 0
	select {
	case <-ts.confirmed:
	default:
		close(ts.confirmed)
	}
	sub.mu.Unlock()
	if resync {
		sub.store.stats.resyncs.Add(1)
		sub.sink.Resync(ts.topic)
	}
}

// unconfirm notes that Redis has ended a channel on a link. Unless this side
// asked for it, the slot has moved: the topic looks for its new node.
func (sub *Subscription) unconfirm(l *link, channel string) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if l.unconfirmed(channel) {
		return
	}
	if ts := sub.topics[channel]; ts != nil && ts.link == l {
		sub.reroute(ts, rerouteAfter)
	}
}

// refused notes that a node has answered a command of the link with an error:
// the slot has moved, the cluster is down, the user may not. The command's
// topics try again, and the link goes on. It reports false if no command was
// waiting.
func (sub *Subscription) refused(l *link, answer redis.Error) bool {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	_, moved := movedSlot(answer)
	c := l.failed(answer)
	if c == nil {
		return moved // an answer to what a pushed sunsubscribe has settled
	}
	if moved {
		sub.giveBack(l, c)
		return true
	}
	if !c.subscribe {
		return true
	}
	sub.store.stats.subscribeRefused.Add(1)
	for channel, ts := range c.waiting {
		if sub.topics[channel] != ts || ts.link != l {
			continue
		}
		if ts.refusals++; ts.refusals == 1 {
			sub.store.opts.Logger.Warn("a node takes no subscription; will try again", "node", l.node, "channel", channel, "error", answer)
		}
		sub.reroute(ts, maxBackoff)
	}
	return true
}

// giveBack has the topics of a command look for their node anew. It is called
// with the mutex held.
func (sub *Subscription) giveBack(l *link, c *command) {
	for channel, ts := range c.waiting {
		if ts != nil && sub.topics[channel] == ts && ts.link == l {
			sub.reroute(ts, rerouteAfter)
		}
	}
}

// reroute is called with the mutex held.
func (sub *Subscription) reroute(ts *topicState, after time.Duration) {
	sub.store.stats.rerouted.Add(1)
	ts.link = nil
	ts.retryAt = time.Now().Add(after)
	sub.pending[ts.channel] = ts
	signal(sub.recheck)
	sub.wakeRouter()
}

// topic returns the topic of a channel if it is wanted from this link.
func (sub *Subscription) topic(l *link, channel string) (progress.Topic, bool) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	ts := sub.topics[channel]
	if ts == nil || ts.link != l {
		return progress.Topic{}, false
	}
	return ts.topic, true
}

// drop forgets a link that has ended; its topics look for a new one.
func (sub *Subscription) drop(l *link, err error) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if sub.links[l.node] == l {
		delete(sub.links, l.node)
	}
	for channel, ts := range sub.topics {
		if ts.link == l {
			ts.link = nil
			sub.pending[channel] = ts
		}
	}
	sub.wakeRouter()
	if sub.ctx.Err() != nil || l.retired {
		return
	}
	sub.store.stats.reconnects.Add(1)
	t := sub.trouble[l.node]
	if t == nil {
		t = &trouble{}
		sub.trouble[l.node] = t
		sub.store.opts.Logger.Warn("a subscription's connection ended; connecting again", "node", l.node, "error", err)
	}
	t.failures++
	t.retryAt = time.Now().Add(min(minBackoff<<min(t.failures, 10), maxBackoff))
	signal(sub.recheck)
}
