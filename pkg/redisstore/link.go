package redisstore

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/redis/go-redis/v9"
)

// subscribeBatch is how many channels one SUBSCRIBE names.
const subscribeBatch = 500

// deadAfter is how many ping intervals without any answer end a link.
const deadAfter = 3

// link is one connection that receives messages. It is never used again
// after an error.
type link struct {
	sub    *Subscription
	node   string
	line   *line
	client *redis.Client // on that line
	ps     *redis.PubSub
	wake   chan struct{} // tells the writer; one pending wake-up is enough
	ctx    context.Context
	cancel context.CancelFunc // ends the link

	// Guarded by sub.mu.
	todo    []op       // in the order in which it is to be written
	sent    []*command // in the order in which they are answered
	retired bool       // ended because nothing is wanted from its node
}

// op is one channel to be subscribed (ts is set) or unsubscribed.
type op struct {
	channel string
	ts      *topicState
}

// command is one that was sent, with the channels whose answer is to come.
// Redis answers commands in order: each channel by a confirmation, or all of
// them by one error.
type command struct {
	subscribe bool
	slot      int // of all its channels; on a cluster only
	waiting   map[string]*topicState
}

// newLink is called with sub.mu held.
func newLink(sub *Subscription, node string) *link {
	l := &link{sub: sub, node: node, wake: make(chan struct{}, 1)}
	l.ctx, l.cancel = context.WithCancel(sub.ctx)
	l.line, l.client = sub.store.newLine(node)
	l.ps = l.client.Subscribe(l.ctx)
	return l
}

// enqueue is called with sub.mu held.
func (l *link) enqueue(o op) {
	l.todo = append(l.todo, o)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// read is the goroutine that owns the link: it connects, runs the writer,
// receives until the first error, and gives the topics back.
func (l *link) read() {
	writer := make(chan struct{})
	go func() {
		defer close(writer)
		l.write()
	}()
	unhook := context.AfterFunc(l.ctx, l.line.hangUp)
	err := l.receive()
	unhook()
	l.cancel()
	l.line.hangUp()
	<-writer
	_ = l.ps.Close()
	_ = l.client.Close()
	l.sub.drop(l, err)
}

func (l *link) receive() error {
	sub := l.sub
	for {
		// Pings make sure that something arrives in this time. A timeout is
		// final, as it may have cut a reply in two.
		msg, err := l.ps.ReceiveTimeout(l.ctx, deadAfter*sub.store.opts.PingEvery)
		if err != nil {
			if answer, ok := errors.AsType[redis.Error](err); ok && sub.refused(l, answer) {
				continue
			}
			if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
				sub.store.stats.pongsMissed.Add(1)
			}
			return err
		}
		switch m := msg.(type) {
		case *redis.Message:
			t, ok := sub.topic(l, m.Channel)
			if !ok {
				sub.store.stats.unwanted.Add(1)
				continue
			}
			sub.store.stats.messages.Add(1)
			// The text was made for this message alone: nobody else has it, so
			// the bytes of it need not be copied.
			sub.sink.Message(t, unsafe.Slice(unsafe.StringData(m.Payload), len(m.Payload)))
		case *redis.Subscription:
			if strings.HasSuffix(m.Kind, "unsubscribe") {
				sub.unconfirm(l, m.Channel)
			} else {
				sub.confirm(l, m.Channel)
			}
		}
	}
}

// write is the goroutine that sends subscriptions and pings. An error ends
// the link.
func (l *link) write() {
	ticker := time.NewTicker(l.sub.store.opts.PingEvery)
	defer ticker.Stop()
	for {
		var err error
		select {
		case <-l.ctx.Done():
			return
		case <-ticker.C:
			err = l.ps.Ping(l.ctx)
		case <-l.wake:
			err = l.flush()
		}
		if err != nil {
			l.cancel()
			return
		}
	}
}

// flush writes what is to be done. A command is noted as sent before it is,
// since its answer may come at once.
func (l *link) flush() error {
	l.sub.mu.Lock()
	commands := l.commands(l.todo)
	l.todo = nil
	l.sent = append(l.sent, commands...)
	names := make([][]string, len(commands))
	for i, c := range commands {
		for channel := range c.waiting {
			names[i] = append(names[i], channel)
		}
	}
	l.sub.mu.Unlock()
	sharded := l.sub.store.cluster != nil
	for i, c := range commands {
		send := l.ps.Unsubscribe
		switch {
		case sharded && c.subscribe:
			send = l.ps.SSubscribe
		case sharded:
			send = l.ps.SUnsubscribe
		case c.subscribe:
			send = l.ps.Subscribe
		}
		if err := send(l.ctx, names[i]...); err != nil {
			return err
		}
	}
	return nil
}

// commands puts neighbours of one kind together, on a cluster by slot, since
// there one command may not span two. What concerns one channel stays in
// order.
func (l *link) commands(todo []op) []*command {
	var all []*command
	last := map[int]*command{} // by slot
	for _, o := range todo {
		slot := 0
		if l.sub.store.cluster != nil {
			slot = slotOf(o.channel)
		}
		c := last[slot]
		if o.ts != nil && o.ts.refusals > 0 {
			// One that is refused for good must not take others with it.
			all = append(all, &command{subscribe: true, slot: slot, waiting: map[string]*topicState{o.channel: o.ts}})
			delete(last, slot) // what follows stays behind it
			continue
		}
		if c == nil || c.subscribe != (o.ts != nil) || len(c.waiting) >= subscribeBatch {
			c = &command{subscribe: o.ts != nil, slot: slot, waiting: map[string]*topicState{}}
			last[slot] = c
			all = append(all, c)
		}
		c.waiting[o.channel] = o.ts
	}
	return all
}

// confirmed takes the confirmation of a subscription out of what was sent and
// returns whose it was; nil if nothing like it was sent. Passed are commands
// sent before, whose answer was taken for another's. It is called with sub.mu
// held.
func (l *link) confirmed(channel string) (ts *topicState, passed []*command) {
	i := slices.IndexFunc(l.sent, func(c *command) bool { return c.subscribe && c.waiting[channel] != nil })
	if i < 0 {
		return nil, nil
	}
	passed, l.sent = l.sent[:i], l.sent[i:]
	c := l.sent[0]
	ts = c.waiting[channel]
	delete(c.waiting, channel)
	if len(c.waiting) == 0 {
		l.sent = l.sent[1:]
	}
	return ts, passed
}

// unconfirmed reports whether the end of a channel's subscription answers a
// command: then that command is the oldest. It is called with sub.mu held.
func (l *link) unconfirmed(channel string) bool {
	if len(l.sent) == 0 || l.sent[0].subscribe {
		return false
	}
	c := l.sent[0]
	if _, ok := c.waiting[channel]; !ok {
		return false
	}
	delete(c.waiting, channel)
	if len(c.waiting) == 0 {
		l.sent = l.sent[1:]
	}
	return true
}

// failed returns the command that an error answers, and takes it out of what
// was sent: the oldest, or, where the error names a slot, the oldest of that
// slot. Nil means that there is none. It is called with sub.mu held.
func (l *link) failed(answer redis.Error) *command {
	i := 0
	if slot, ok := movedSlot(answer); ok {
		i = slices.IndexFunc(l.sent, func(c *command) bool { return c.slot == slot })
	}
	if i < 0 || i >= len(l.sent) {
		return nil
	}
	c := l.sent[i]
	l.sent = slices.Delete(l.sent, i, i+1)
	return c
}

// movedSlot returns the slot that a MOVED answer names.
func movedSlot(err error) (int, bool) {
	if _, ok := redis.IsMovedError(err); !ok {
		return 0, false
	}
	_, text, _ := strings.Cut(err.Error(), "MOVED ")
	text, _, _ = strings.Cut(text, " ")
	n, convErr := strconv.Atoi(text)
	return n, convErr == nil
}
