// Package conversation keeps in Redis what the messaging application has to
// remember: people's hours, what was said, who wants no messages, what was
// sent and what became of it. Everything is legible in redis-cli:
//
//	hours:{PERSON}          hash    "2026-11-24 apollo" -> "7.5"
//	hours:{PERSON}:noted:K  string  what message K recorded, as JSON
//	memory:{PERSON}         list    the last turns, newest first, as JSON
//	person:{PERSON}         hash    "time_zone" -> "Australia/Sydney"
//	awaited:{PERSON}        hash    workflow ID -> since when it waits for hours
//	optout:{PERSON, hashed} string  since when the person wants no messages
//	intent:{KEY}            hash    one message that is to be sent once
//	message:{SID}           hash    one message that was sent
//	outbox                  stream  messages for which there is no carrier
//
// PERSON is the encoded address, a telephone number without its channel. All
// keys but optout expire, counted from their last change; turns and messages
// in the outbox each have a time of their own. The package knows
// no Temporal and no Twilio.
package conversation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/agents"
	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/redisstore"
)

// The defaults of [Options].
const (
	DefaultKeepMessages = 30 * 24 * time.Hour
	DefaultKeepHours    = 2 * 365 * 24 * time.Hour
)

// maxMemory bounds how many turns of a person are remembered, and maxTurn the
// characters of each side that are.
const (
	maxMemory = 20
	maxTurn   = 1600
)

// Options configures a [Store]. The zero value of each field is its default.
type Options struct {
	// Prefix stands in front of every key, followed by a colon. Default: none.
	Prefix string
	// KeepMessages is how long messages, memory and intents are kept,
	// KeepHours how long hours are, after the last change.
	KeepMessages, KeepHours time.Duration
}

// Store is safe for use by many goroutines.
type Store struct {
	client redis.UniversalClient
	prefix string
	o      Options
	now    func() time.Time
}

// New returns a store on a client that the caller keeps and closes.
func New(c redis.UniversalClient, o Options) *Store {
	if o.KeepMessages <= 0 {
		o.KeepMessages = DefaultKeepMessages
	}
	if o.KeepHours <= 0 {
		o.KeepHours = DefaultKeepHours
	}
	s := &Store{client: c, o: o, now: time.Now}
	if o.Prefix != "" {
		s.prefix = redisstore.EncodeID(strings.TrimSuffix(o.Prefix, ":")) + ":"
	}
	return s
}

// key returns a key of a kind, of one slot for each name.
func (s *Store) key(kind, name string) string {
	return s.prefix + kind + ":{" + redisstore.EncodeID(name) + "}"
}

// person is who an address belongs to, as keys name it.
func person(a message.Address) string { return a.Number().Raw() }

// optOut is kept for good, so it does not hold the number.
func (s *Store) optOut(who message.Address) string {
	sum := sha256.Sum256([]byte(person(who)))
	return s.key("optout", hex.EncodeToString(sum[:16]))
}

// OptOut notes that the person wants no messages.
func (s *Store) OptOut(ctx context.Context, who message.Address) error {
	return wrap("note an opt-out", s.client.SetNX(ctx, s.optOut(who), stamp(s.now()), 0).Err())
}

// OptIn notes that the person wants messages again, and reports whether that
// is a change.
func (s *Store) OptIn(ctx context.Context, who message.Address) (bool, error) {
	n, err := s.client.Del(ctx, s.optOut(who)).Result()
	return n > 0, wrap("note an opt-in", err)
}

// OptedOut reports whether the person wants no messages.
func (s *Store) OptedOut(ctx context.Context, who message.Address) (bool, error) {
	n, err := s.client.Exists(ctx, s.optOut(who)).Result()
	return n > 0, wrap("look for an opt-out", err)
}

// KeepZone notes in which time zone the person is.
func (s *Store) KeepZone(ctx context.Context, who message.Address, zone string) error {
	key := s.key("person", person(who))
	_, err := s.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.HSet(ctx, key, "time_zone", zone)
		p.PExpire(ctx, key, s.o.KeepHours)
		return nil
	})
	return wrap("note a time zone", err)
}

// Zone returns the time zone in which the person is; "" is not known.
func (s *Store) Zone(ctx context.Context, who message.Address) (string, error) {
	zone, err := s.client.HGet(ctx, s.key("person", person(who)), "time_zone").Result()
	if err == redis.Nil { //nolint:errorlint // the client returns it as it is
		return "", nil
	}
	return zone, wrap("read a time zone", err)
}

// turn is a turn as it is kept, with the message that it answers.
type turn struct {
	Key string `json:"key"`
	agents.Turn
}

var rememberScript = redis.NewScript(`
-- KEYS: memory. ARGV: key, turn, how many are kept, how long in ms, and since
-- when, as turns write it.
-- A turn that is there already is not put again: the caller may retry.
for _, old in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
	if string.find(old, ARGV[1], 1, true) then return 0 end
end
redis.call('LPUSH', KEYS[1], ARGV[2])
redis.call('LTRIM', KEYS[1], 0, ARGV[3] - 1)
while true do
	local at = string.match(redis.call('LINDEX', KEYS[1], -1) or '', '"at":"([^"]*)"')
	if not at or string.sub(at, 1, 19) >= ARGV[5] then break end
	redis.call('RPOP', KEYS[1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1`)

// Remember keeps a turn of the conversation with a person, once for a key.
// What is too old goes, and the oldest ones make room.
func (s *Store) Remember(ctx context.Context, who message.Address, key string, t agents.Turn) error {
	t.Text, t.Reply, t.At = clip(t.Text), clip(t.Reply), t.At.UTC()
	quoted, err := json.Marshal(key)
	if err != nil {
		return fmt.Errorf("encode a key: %w", err)
	}
	text, err := json.Marshal(turn{key, t})
	if err != nil {
		return fmt.Errorf("encode a turn: %w", err)
	}
	return wrap("remember a turn", rememberScript.Run(ctx, s.client, []string{s.key("memory", person(who))},
		`{"key":`+string(quoted)+`,`, text, maxMemory, s.o.KeepMessages.Milliseconds(), s.oldest().Format("2006-01-02T15:04:05")).Err())
}

// oldest is since when turns are kept.
func (s *Store) oldest() time.Time { return s.now().Add(-s.o.KeepMessages).UTC() }

// Memory returns what was said before, oldest first.
func (s *Store) Memory(ctx context.Context, who message.Address) ([]agents.Turn, error) {
	list, err := s.client.LRange(ctx, s.key("memory", person(who)), 0, maxMemory-1).Result()
	if err != nil {
		return nil, wrap("read the memory", err)
	}
	turns := make([]agents.Turn, 0, len(list))
	for i := len(list) - 1; i >= 0; i-- {
		var t turn
		if err := json.Unmarshal([]byte(list[i]), &t); err != nil {
			continue // not ours: somebody has written by hand
		}
		if t.At.Before(s.oldest()) {
			continue // nobody has written since
		}
		turns = append(turns, t.Turn)
	}
	return turns, nil
}

// maxAwaited bounds how many runs may wait for one person.
const maxAwaited = 100

// Await notes that a workflow waits for the person's hours.
func (s *Store) Await(ctx context.Context, who message.Address, workflowID string) error {
	key := s.key("awaited", person(who))
	n, err := s.client.HLen(ctx, key).Result()
	if err == nil && n >= maxAwaited {
		return nil // it asks for the hours itself after its wait
	}
	if err == nil {
		_, err = s.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.HSet(ctx, key, workflowID, stamp(s.now()))
			p.PExpire(ctx, key, s.o.KeepMessages)
			return nil
		})
	}
	return wrap("note who waits", err)
}

// AwaitNoMore is the end of [Store.Await].
func (s *Store) AwaitNoMore(ctx context.Context, who message.Address, workflowID string) error {
	return wrap("note who waits no more", s.client.HDel(ctx, s.key("awaited", person(who)), workflowID).Err())
}

// Awaiting returns the workflows that wait for the person's hours.
func (s *Store) Awaiting(ctx context.Context, who message.Address) ([]string, error) {
	ids, err := s.client.HKeys(ctx, s.key("awaited", person(who))).Result()
	return ids, wrap("read who waits", err)
}

// stamp is a time as it is kept.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func clip(text string) string {
	n := 0
	for i := range text {
		if n == maxTurn {
			return text[:i]
		}
		n++
	}
	return text
}
