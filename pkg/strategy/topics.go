package strategy

import (
	"context"
	"sync"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// topics shares one subscription among the sequences of [Pipeline].
type topics struct {
	mu      sync.Mutex
	inboxes map[string]map[*inbox]struct{} // by workflow ID
	sub     *redisstore.Subscription
}

func (t *topics) init(s Store) {
	t.inboxes = map[string]map[*inbox]struct{}{}
	t.sub = s.Subscribe(t)
}

// Close ends the subscription. End all sequences first.
func (t *topics) Close() error { return t.sub.Close() }

// join returns an inbox for what is published of the workflow from now on.
func (t *topics) join(ctx context.Context, id string) (*inbox, error) {
	in := &inbox{wake: make(chan struct{}, 1)}
	t.mu.Lock()
	if t.inboxes[id] == nil {
		t.inboxes[id] = map[*inbox]struct{}{}
	}
	t.inboxes[id][in] = struct{}{}
	t.mu.Unlock()
	if err := t.sub.Add(ctx, topicOf(id)); err != nil {
		t.leave(id, in)
		return nil, err
	}
	return in, nil
}

func (t *topics) leave(id string, in *inbox) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.inboxes[id], in)
	if len(t.inboxes[id]) == 0 {
		delete(t.inboxes, id)
		// Under the mutex: who joins next adds it behind this.
		t.sub.Remove(topicOf(id))
	}
}

func topicOf(id string) progress.Topic {
	return progress.Topic{Kind: progress.TopicWorkflow, Name: id}
}

// Message implements redisstore.Sink.
func (t *topics) Message(topic progress.Topic, data []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for in := range t.inboxes[topic.Name] {
		in.put(data)
	}
}

// Resync implements redisstore.Sink.
func (t *topics) Resync(topic progress.Topic) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for in := range t.inboxes[topic.Name] {
		in.miss()
	}
}

// inboxMax bounds the messages that wait for one sequence. What goes beyond
// is read from the stream, so nothing is lost.
const inboxMax = 256

// inbox takes messages for one sequence.
type inbox struct {
	wake chan struct{} // one pending wake-up is enough

	mu       sync.Mutex
	messages [][]byte
	missed   bool
}

func (in *inbox) put(data []byte) {
	in.mu.Lock()
	if len(in.messages) < inboxMax {
		in.messages = append(in.messages, data)
	} else {
		in.messages, in.missed = nil, true
	}
	in.mu.Unlock()
	in.ring()
}

func (in *inbox) miss() {
	in.mu.Lock()
	in.missed = true
	in.mu.Unlock()
	in.ring()
}

func (in *inbox) ring() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// take returns what has come, and whether some was missed.
func (in *inbox) take() (messages [][]byte, missed bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	messages, missed = in.messages, in.missed
	in.messages, in.missed = nil, false
	return messages, missed
}
