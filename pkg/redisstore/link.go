package redisstore

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// subscribeBatch is how many channels one SUBSCRIBE names.
const subscribeBatch = 500

// deadAfter is how many ping intervals without any answer end a link.
const deadAfter = 3

// link is one connection that receives messages. It is never used again
// after an error: go-redis would resubscribe all channels in one command,
// which a cluster refuses for channels of more than one slot.
type link struct {
	sub  *Subscription
	node string
	ps   *redis.PubSub
	wake chan struct{} // tells the writer; one pending wake-up is enough

	// Guarded by sub.mu.
	todo          []op           // in the order in which it is to be written
	subscribing   map[string]int // confirmations that are to come, by channel
	unsubscribing map[string]int
}

// op is one channel to be subscribed or unsubscribed.
type op struct {
	channel   string
	subscribe bool
}

func newLink(sub *Subscription, node string, client subscriber) *link {
	return &link{
		sub: sub, node: node, ps: client.Subscribe(sub.ctx), wake: make(chan struct{}, 1),
		subscribing: map[string]int{}, unsubscribing: map[string]int{},
	}
}

// enqueue is called with sub.mu held.
func (l *link) enqueue(o op) {
	l.todo = append(l.todo, o)
	if o.subscribe {
		l.subscribing[o.channel]++
	} else {
		l.unsubscribing[o.channel]++
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// read is the goroutine that owns the link: it connects, runs the writer,
// receives until the first error, and gives the topics back.
func (l *link) read() {
	sub := l.sub
	ctx, cancel := context.WithCancel(sub.ctx)
	writer := make(chan struct{})
	go func() {
		defer close(writer)
		l.write(ctx)
	}()
	// Closing the connection is what ends a Receive that waits.
	unhook := context.AfterFunc(ctx, func() { _ = l.ps.Close() })
	err := l.receive(ctx)
	unhook()
	cancel()
	_ = l.ps.Close()
	<-writer
	sub.drop(l)
	if sub.ctx.Err() != nil {
		return
	}
	sub.store.stats.reconnects.Add(1)
	sub.store.opts.Logger.Warn("a subscription's connection ended; connecting again", "node", l.node, "error", err)
	if sub.store.cluster != nil {
		sub.reload()
	}
	timer := time.NewTimer(sub.backoff())
	defer timer.Stop()
	select {
	case <-timer.C:
		sub.wakeRouter()
	case <-sub.ctx.Done():
	}
}

func (l *link) receive(ctx context.Context) error {
	sub := l.sub
	for {
		// Pings make sure that something arrives in this time. A timeout is
		// final, as it may have cut a reply in two.
		msg, err := l.ps.ReceiveTimeout(ctx, deadAfter*sub.store.opts.PingEvery)
		if slot, ok := movedSlot(err); ok {
			sub.moved(l, slot)
			continue
		}
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
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
			sub.sink.Message(t, []byte(m.Payload))
		case *redis.Subscription:
			if strings.HasSuffix(m.Kind, "unsubscribe") {
				sub.unconfirm(l, m.Channel)
			} else {
				sub.confirm(l, m.Channel)
			}
		}
	}
}

// write is the goroutine that sends subscriptions and pings. An error closes
// the connection, which ends the reader.
func (l *link) write(ctx context.Context) {
	ticker := time.NewTicker(l.sub.store.opts.PingEvery)
	defer ticker.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			err = l.ps.Ping(ctx)
		case <-l.wake:
			l.sub.mu.Lock()
			todo := l.todo
			l.todo = nil
			l.sub.mu.Unlock()
			err = l.send(ctx, todo)
		}
		if err != nil {
			_ = l.ps.Close()
			return
		}
	}
}

// send writes the changes in order, neighbours of one kind together: on a
// cluster by slot, since one command may not span two.
func (l *link) send(ctx context.Context, todo []op) error {
	for len(todo) > 0 {
		n := 1
		for n < len(todo) && n < subscribeBatch && todo[n].subscribe == todo[0].subscribe {
			n++
		}
		channels := make([]string, n)
		for i, o := range todo[:n] {
			channels[i] = o.channel
		}
		if err := l.sendRun(ctx, todo[0].subscribe, channels); err != nil {
			return err
		}
		todo = todo[n:]
	}
	return nil
}

func (l *link) sendRun(ctx context.Context, subscribe bool, channels []string) error {
	if l.sub.store.cluster == nil {
		if subscribe {
			return l.ps.Subscribe(ctx, channels...)
		}
		return l.ps.Unsubscribe(ctx, channels...)
	}
	bySlot := map[int][]string{}
	for _, channel := range channels {
		n := slotOf(channel)
		bySlot[n] = append(bySlot[n], channel)
	}
	for _, channels := range bySlot {
		var err error
		if subscribe {
			err = l.ps.SSubscribe(ctx, channels...)
		} else {
			err = l.ps.SUnsubscribe(ctx, channels...)
		}
		if err != nil {
			return err
		}
	}
	return nil
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
