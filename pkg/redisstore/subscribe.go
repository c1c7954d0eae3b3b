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

// Sink takes what a subscription receives. Its methods are called one at a
// time per topic, from the loop that reads the connection, so they must not
// block.
type Sink interface {
	// Message hands over one published message: for a workflow an event in
	// wire form, for a tag a summary. The sink may keep data.
	Message(t progress.Topic, data []byte)
	// Resync says that messages of the topic may have been missed: the
	// connection was lost, or the topic has moved to another node. The
	// subscription is in place again; read the stream.
	Resync(t progress.Topic)
}

// The waits between attempts to connect again.
const (
	minBackoff = 20 * time.Millisecond
	maxBackoff = 2 * time.Second
	// rerouteAfter is how long topics wait whose slot has moved.
	rerouteAfter = 100 * time.Millisecond
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
// Goroutines: one router, which finds each topic's node; per connection
// ("link") one reader, which owns its life, and one writer. Close ends all.
type Subscription struct {
	store  *Store
	sink   Sink
	ctx    context.Context // ended by Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	wake   chan struct{} // tells the router; one pending wake-up is enough

	mu       sync.Mutex
	closed   bool
	topics   map[string]*topicState // by channel
	pending  map[string]*topicState // those without a link
	links    map[string]*link       // by node; "" on a single server
	failures int                    // of links, since one last worked
	hold     time.Time              // the router waits until then: slots are moving
}

// topicState is a topic that is wanted. The subscription's mutex guards it.
type topicState struct {
	topic     progress.Topic
	channel   string
	link      *link         // nil while pending
	confirmed chan struct{} // closed with the first confirmation
	removed   chan struct{} // closed by Remove and Close
	resync    bool          // it was confirmed before, by a link now lost
}

// Subscribe returns a subscription without topics. Close it before the store.
func (s *Store) Subscribe(sink Sink) *Subscription {
	ctx, cancel := context.WithCancel(context.Background())
	sub := &Subscription{
		store: s, sink: sink, ctx: ctx, cancel: cancel, wake: make(chan struct{}, 1),
		topics: map[string]*topicState{}, pending: map[string]*topicState{}, links: map[string]*link{},
	}
	sub.wg.Go(sub.route)
	return sub
}

// Add subscribes to a topic and returns when Redis has confirmed it: what is
// published from then on arrives at the sink. If ctx ends before, the topic
// is not subscribed. Adding a topic again waits for the same confirmation.
func (sub *Subscription) Add(ctx context.Context, t progress.Topic) error {
	if err := checkTopic(t); err != nil {
		return err
	}
	channel := sub.store.keys.channel(t)
	sub.mu.Lock()
	if sub.closed {
		sub.mu.Unlock()
		return errStopped
	}
	ts := sub.topics[channel]
	if ts == nil {
		ts = &topicState{topic: t, channel: channel, confirmed: make(chan struct{}), removed: make(chan struct{})}
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

func (sub *Subscription) wakeRouter() {
	select {
	case sub.wake <- struct{}{}:
	default:
	}
}

// route gives every pending topic to the link of its node, and makes links.
func (sub *Subscription) route() {
	for {
		sub.mu.Lock()
		hold := time.Until(sub.hold)
		sub.mu.Unlock()
		if hold > 0 {
			select {
			case <-time.After(hold):
			case <-sub.ctx.Done():
				return
			}
		}
		var retry <-chan time.Time
		if !sub.assign() {
			retry = time.After(sub.backoff())
		}
		select {
		case <-sub.wake:
		case <-retry:
		case <-sub.ctx.Done():
			return
		}
	}
}

func (sub *Subscription) backoff() time.Duration {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	sub.failures++
	return min(minBackoff<<min(sub.failures, 10), maxBackoff)
}

// assign routes what is pending. It reports whether nothing is left over.
func (sub *Subscription) assign() bool {
	sub.mu.Lock()
	waiting := make([]*topicState, 0, len(sub.pending))
	for _, ts := range sub.pending {
		waiting = append(waiting, ts)
	}
	sub.mu.Unlock()
	ok := true
	for _, ts := range waiting {
		node, client, err := sub.store.owner(sub.ctx, ts.channel)
		if err != nil {
			sub.store.opts.Logger.Warn("no node is known for a topic; will try again", "channel", ts.channel, "error", err)
			ok = false
			continue
		}
		sub.give(ts, node, client)
	}
	return ok
}

// owner returns the node on which a channel is published. On a single server
// that is the store's own client.
func (s *Store) owner(ctx context.Context, channel string) (string, subscriber, error) {
	if s.cluster == nil {
		return "", s.client, nil
	}
	c, err := s.cluster.MasterForKey(ctx, channel)
	if err != nil {
		return "", nil, err
	}
	return c.Options().Addr, c, nil
}

// subscriber is the part of a client that a link needs.
type subscriber interface {
	Subscribe(ctx context.Context, channels ...string) *redis.PubSub
}

func (sub *Subscription) give(ts *topicState, node string, client subscriber) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if sub.pending[ts.channel] != ts || sub.closed {
		return
	}
	delete(sub.pending, ts.channel)
	l := sub.links[node]
	if l == nil {
		l = newLink(sub, node, client)
		sub.links[node] = l
		sub.wg.Go(l.read)
	}
	ts.link = l
	l.enqueue(op{channel: ts.channel, subscribe: true})
}

// confirm notes that Redis has confirmed a channel on a link, and reports
// what to tell the sink.
func (sub *Subscription) confirm(l *link, channel string) {
	sub.mu.Lock()
	sub.failures = 0
	l.subscribing[channel]--
	done := l.subscribing[channel] <= 0
	if done {
		delete(l.subscribing, channel)
	}
	ts := sub.topics[channel]
	if ts == nil || ts.link != l || !done {
		sub.mu.Unlock()
		return // removed meanwhile, or added again: a later confirmation counts
	}
	resync := ts.resync
	ts.resync = true
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
	if l.unsubscribing[channel] > 0 {
		if l.unsubscribing[channel]--; l.unsubscribing[channel] == 0 {
			delete(l.unsubscribing, channel)
		}
		return
	}
	if ts := sub.topics[channel]; ts != nil && ts.link == l {
		sub.reroute(ts)
	}
}

// moved notes that a node has refused a slot (MOVED): what is to be
// subscribed there looks for its new node.
func (sub *Subscription) moved(l *link, slot int) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	for channel := range l.subscribing {
		if slotOf(channel) != slot {
			continue
		}
		delete(l.subscribing, channel)
		if ts := sub.topics[channel]; ts != nil && ts.link == l {
			sub.reroute(ts)
		}
	}
}

// reroute is called with the mutex held.
func (sub *Subscription) reroute(ts *topicState) {
	sub.store.stats.rerouted.Add(1)
	ts.link = nil
	sub.pending[ts.channel] = ts
	sub.reload()
	// The client learns the slots anew in the background; asking at once
	// would only name the same node again.
	sub.hold = time.Now().Add(rerouteAfter)
	sub.wakeRouter()
}

// reload makes the client learn the cluster's slots anew.
func (sub *Subscription) reload() {
	if sub.store.cluster != nil {
		sub.store.cluster.ReloadState(sub.ctx)
	}
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
func (sub *Subscription) drop(l *link) {
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
}
