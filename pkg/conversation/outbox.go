package conversation

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/message"
)

// maxOutbox is about how many messages the outbox holds.
const maxOutbox = 1000

// Outbox takes messages where there is no carrier: for development, and for
// what was typed into the page. It is the stream "outbox"; what it takes
// counts as delivered.
type Outbox struct{ s *Store }

// Outbox returns the store's outbox.
func (s *Store) Outbox() *Outbox { return &Outbox{s} }

func (b *Outbox) key() string { return b.s.prefix + "outbox" }

// Send puts the message into the outbox.
func (b *Outbox) Send(ctx context.Context, out message.Outgoing) (message.Receipt, error) {
	var id *redis.StringCmd
	_, err := b.s.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		id = p.XAdd(ctx, &redis.XAddArgs{Stream: b.key(), MaxLen: maxOutbox, Approx: true, Values: []any{
			"channel", string(out.Channel), "to", out.To.Raw(), "from", out.From.Raw(), "text", out.Text, "key", out.Key,
		}})
		// Each message has its time, however many come after it.
		p.XTrimMinID(ctx, b.key(), strconv.FormatInt(b.s.now().Add(-b.s.o.KeepMessages).UnixMilli(), 10))
		p.PExpire(ctx, b.key(), b.s.o.KeepMessages)
		return nil
	})
	if err != nil {
		// Redis may have taken it before the connection broke.
		return message.Receipt{}, &message.Error{Class: message.ErrUnknown, Cause: err}
	}
	return receipt(id.Val()), nil
}

// Find looks for the message in the outbox.
func (b *Outbox) Find(ctx context.Context, out message.Outgoing, _ time.Time) ([]message.Receipt, error) {
	list, err := b.s.client.XRevRangeN(ctx, b.key(), "+", "-", 2*maxOutbox).Result()
	if err != nil {
		return nil, wrap("read the outbox", err)
	}
	for _, entry := range list {
		if entry.Values["key"] == out.Key {
			return []message.Receipt{receipt(entry.ID)}, nil
		}
	}
	return nil, nil
}

func receipt(id string) message.Receipt {
	return message.Receipt{SID: "outbox-" + id, Status: message.StatusDelivered}
}

// Messages returns the messages to a receiver, oldest first; "" is everybody.
func (b *Outbox) Messages(ctx context.Context, to message.Address) ([]message.Outgoing, error) {
	list, err := b.s.client.XRange(ctx, b.key(), "-", "+").Result()
	if err != nil {
		return nil, wrap("read the outbox", err)
	}
	var messages []message.Outgoing
	for _, entry := range list {
		text := func(name string) string {
			value, _ := entry.Values[name].(string)
			return value
		}
		if to == "" || message.Address(text("to")) == to {
			messages = append(messages, message.Outgoing{
				Channel: message.Channel(text("channel")), To: message.Address(text("to")), From: message.Address(text("from")),
				Text: text("text"), Key: text("key"),
			})
		}
	}
	return messages, nil
}
