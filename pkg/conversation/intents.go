package conversation

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/message"
)

// State is how far an intent to send a message has come.
type State string

// The states. Attempting is the answer to who may attempt now; Attempted
// means that an earlier attempt has begun and its outcome is not recorded.
const (
	Attempting State = "attempting"
	Attempted  State = "attempted"
	Sent       State = "sent"
	Failed     State = "failed"
)

// Intent is what is known of a message that is to be sent once.
type Intent struct {
	State State
	// At is when the last attempt began.
	At time.Time
	// Receipt is of a message that was sent.
	Receipt message.Receipt
	// Reason is why it failed for good.
	Reason string
}

// beginScript lets one caller attempt, and no second one until the outcome of
// the first is known.
var beginScript = redis.NewScript(`
-- KEYS: intent. ARGV: now and the time of the attempt that the caller has
-- found to have sent nothing (or ""), both in ms; the receiver, masked; how
-- long the intent is kept in ms.
-- Returns the state and the time of the last attempt.
local state, at = unpack(redis.call('HMGET', KEYS[1], 'state', 'attempted_at'))
if state == 'attempted' and at ~= ARGV[2] or state == 'sent' or state == 'failed' then
	local f = redis.call('HMGET', KEYS[1], 'sid', 'status', 'error')
	return { state, at or '', f[1] or '', f[2] or '', f[3] or '' }
end
redis.call('HSET', KEYS[1], 'state', 'attempted', 'attempted_at', ARGV[1], 'to', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'attempts', 1)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return { 'attempting', ARGV[1], '', '', '' }`)

// Begin records that the message is about to be sent. Only with the state
// Attempting may the caller send it, in one attempt, and then it must call
// Sent, Release or Fail, unless the outcome is unknown. Where the state is
// Attempted, the message has to be looked up first; if it was not sent, Begin
// is called again with after, the time of the attempt that was looked for.
func (s *Store) Begin(ctx context.Context, out message.Outgoing, after time.Time) (Intent, error) {
	last := ""
	if !after.IsZero() {
		last = strconv.FormatInt(after.UnixMilli(), 10)
	}
	f, err := beginScript.Run(ctx, s.client, []string{s.key("intent", out.Key)},
		s.now().UnixMilli(), last, out.To.String(), s.o.KeepMessages.Milliseconds()).StringSlice()
	if err != nil {
		return Intent{}, wrap("record the intent to send", err)
	}
	ms, _ := strconv.ParseInt(f[1], 10, 64) // the script's own number
	return Intent{
		State: State(f[0]), At: time.UnixMilli(ms), Reason: f[4],
		Receipt: message.Receipt{SID: f[2], Status: message.Status(f[3])},
	}, nil
}

// Release records that the last attempt surely sent nothing, so that the next
// need not look.
func (s *Store) Release(ctx context.Context, out message.Outgoing) error {
	return s.setIntent(ctx, out, "state", "free")
}

// Fail records that the message cannot be sent, and why.
func (s *Store) Fail(ctx context.Context, out message.Outgoing, reason string) error {
	return s.setIntent(ctx, out, "state", string(Failed), "error", reason)
}

func (s *Store) setIntent(ctx context.Context, out message.Outgoing, fields ...any) error {
	key := s.key("intent", out.Key)
	_, err := s.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.HSet(ctx, key, fields...)
		p.PExpire(ctx, key, s.o.KeepMessages)
		return nil
	})
	return wrap("record the outcome of a send", err)
}

// Sent records that the message was sent, for the intent and under its SID,
// and returns what is known of it now: a callback may have come before.
func (s *Store) Sent(ctx context.Context, out message.Outgoing, workflowID string, r message.Receipt) (message.Receipt, error) {
	now, err := s.UpdateStatus(ctx, r)
	if err != nil {
		return r, err
	}
	key := s.key("message", r.SID)
	_, err = s.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.HSet(ctx, key, "channel", string(out.Channel), "to", out.To.String(), "intent", out.Key,
			"workflow_id", workflowID, "sent_at", stamp(s.now()))
		p.PExpire(ctx, key, s.o.KeepMessages)
		return nil
	})
	if err != nil {
		return now, wrap("keep the message", err)
	}
	return now, s.setIntent(ctx, out, "state", string(Sent), "sid", r.SID, "status", string(r.Status))
}

// IntentOf returns the key of the intent that the message was sent for; "" is
// not known.
func (s *Store) IntentOf(ctx context.Context, sid string) (string, error) {
	key, err := s.client.HGet(ctx, s.key("message", sid), "intent").Result()
	if err == redis.Nil { //nolint:errorlint // the client returns it as it is
		return "", nil
	}
	return key, wrap("read a message", err)
}

// statusScript changes a status only if it still is what the caller read.
var statusScript = redis.NewScript(`
-- KEYS: message. ARGV: status read, new status, error code, now, how long the
-- message is kept in ms.
if (redis.call('HGET', KEYS[1], 'status') or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'status', ARGV[2], 'error_code', ARGV[3], 'updated_at', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1`)

// UpdateStatus keeps what the carrier says of a message, and returns what
// holds: of callbacks in any order, the one that is furthest on its way. The
// message may not be known yet.
func (s *Store) UpdateStatus(ctx context.Context, r message.Receipt) (message.Receipt, error) {
	for {
		known, err := s.Receipt(ctx, r.SID)
		if err != nil {
			return r, err
		}
		if known.Status != "" && known.Newer(r) == known {
			return known, nil
		}
		ok, err := statusScript.Run(ctx, s.client, []string{s.key("message", r.SID)},
			string(known.Status), string(r.Status), r.ErrorCode, stamp(s.now()), s.o.KeepMessages.Milliseconds()).Bool()
		if err != nil {
			return r, wrap("keep the status of a message", err)
		}
		if ok {
			return r, nil
		}
		// Another callback came between; statuses only rise, so this ends.
	}
}

// Receipt returns what is known of a message; a zero status is nothing.
func (s *Store) Receipt(ctx context.Context, sid string) (message.Receipt, error) {
	f, err := s.client.HMGet(ctx, s.key("message", sid), "status", "error_code").Result()
	if err != nil {
		return message.Receipt{}, wrap("read a message", err)
	}
	status, _ := f[0].(string)
	text, _ := f[1].(string)
	code, _ := strconv.Atoi(text) // "" is none
	return message.Receipt{SID: sid, Status: message.Status(status), ErrorCode: code}, nil
}

// Message returns the fields of a message that was sent; none where it is not
// known. The receiver is masked.
func (s *Store) Message(ctx context.Context, sid string) (map[string]string, error) {
	f, err := s.client.HGetAll(ctx, s.key("message", sid)).Result()
	return f, wrap("read a message", err)
}
