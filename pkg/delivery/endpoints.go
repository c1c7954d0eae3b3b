package delivery

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/webhook"
)

// PauseAfter is how many attempts in a row fail before an endpoint is paused:
// what is pushed then goes to the dead letters at once. After the pause one
// push tries, and the others wait for what becomes of it.
const PauseAfter = 10

const (
	// maxPause bounds the pauses but those that a receiver asks for.
	maxPause = time.Hour
	// endpointFor is how long the failures of an endpoint are remembered,
	// from the last one, or the end of its pause, on.
	endpointFor = 24 * time.Hour
	// probeFor is how long one push has to find out whether an endpoint is
	// well again.
	probeFor = webhook.DefaultTimeout + 5*time.Second
	// redisFor bounds what is asked of Redis for one push.
	redisFor = 2 * time.Second
)

// endpoint is the key of a URL's receiver, whatever the query, which may differ
// from run to run. It is a hash: a URL may be long, and hold a token.
func (l *Letters) endpoint(url string) string {
	receiver, err := webhook.Receiver(url)
	if err != nil {
		receiver = url // nothing is sent there
	}
	sum := sha256.Sum256([]byte(receiver))
	return l.base + ":endpoint:" + hex.EncodeToString(sum[:16])
}

var enterScript = redis.NewScript(`
-- KEYS: endpoint. ARGV: now, for how long one may try (ms), failures that pause.
-- Returns the failures in a row, and until when it is paused; 0: it is not.
local f = tonumber(redis.call('HGET', KEYS[1], 'failures')) or 0
local until_ms = tonumber(redis.call('HGET', KEYS[1], 'paused_until')) or 0
if until_ms > tonumber(ARGV[1]) then return {f, until_ms} end
if f >= tonumber(ARGV[3]) then
	redis.call('HSET', KEYS[1], 'paused_until', string.format('%.0f', ARGV[1] + ARGV[2]))
end
return {f, 0}`)

// enter asks whether something may be sent to a URL now: until is zero if so.
// failures is how many attempts in a row have failed, which [Letters.failed]
// is to be told.
func (l *Letters) enter(ctx context.Context, url string) (failures int64, until time.Time, err error) {
	answer, err := enterScript.Run(ctx, l.client, []string{l.endpoint(url)}, l.now().UnixMilli(), probeFor.Milliseconds(), PauseAfter).Int64Slice()
	if err != nil {
		return 0, time.Time{}, wrap("ask for an endpoint", err)
	}
	if answer[1] > 0 {
		until = time.UnixMilli(answer[1])
	}
	return answer[0], until, nil
}

var failScript = redis.NewScript(`
-- KEYS: endpoint. ARGV: now, failures that pause, pause, longest pause, asked
-- for, remembered for (all ms), URL for people, failures when the attempt began; -1: it
-- did not ask. Returns until when it is paused; 0: it is not.
local f = tonumber(redis.call('HGET', KEYS[1], 'failures')) or 0
local until_ms = tonumber(redis.call('HGET', KEYS[1], 'paused_until')) or 0
local pause = tonumber(ARGV[5])
-- Many attempts may be under way when the pause begins, and fail for the same
-- reason. Of an endpoint that has failed so often only the probe tells more.
local probe = f >= tonumber(ARGV[2]) and f == tonumber(ARGV[8])
if probe or f < tonumber(ARGV[2]) and until_ms <= tonumber(ARGV[1]) then
	f = redis.call('HINCRBY', KEYS[1], 'failures', 1)
	if f >= tonumber(ARGV[2]) then
		pause = math.max(pause, math.min(ARGV[3] * 2 ^ math.min(f - ARGV[2], 30), tonumber(ARGV[4])))
	end
elseif pause == 0 then
	return until_ms
end
redis.call('HSET', KEYS[1], 'url', ARGV[7])
if pause > 0 then
	-- The probe's own time ends with it; any other pause is not cut short.
	until_ms = probe and ARGV[1] + pause or math.max(until_ms, ARGV[1] + pause)
	redis.call('HSET', KEYS[1], 'paused_until', string.format('%.0f', until_ms))
end
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ARGV[6] + math.max(until_ms - ARGV[1], 0)))
return until_ms`)

// unasked is in the place of the failures that enter returns, for an attempt
// that is made in any case.
const unasked = -1

// failed notes that an attempt has failed, and that the receiver asks to be
// left alone so long. What began before a pause does not make it longer; the
// attempt after it does.
func (l *Letters) failed(ctx context.Context, url string, entered int64, asked time.Duration) (until time.Time, err error) {
	ms, err := failScript.Run(ctx, l.client, []string{l.endpoint(url)},
		l.now().UnixMilli(), PauseAfter, l.o.Pause.Milliseconds(), maxPause.Milliseconds(), asked.Milliseconds(), endpointFor.Milliseconds(),
		webhook.Redacted(url), entered).Int64()
	if err != nil {
		return time.Time{}, wrap("note that an endpoint fails", err)
	}
	if ms > 0 {
		until = time.UnixMilli(ms)
	}
	return until, nil
}

// refused notes that an attempt was in vain. What is wrong with the message, or
// with where it goes, says nothing against the endpoint: one that answers so is
// there, and ends a row of failures.
func (l *Letters) refused(ctx context.Context, url string, entered int64, asked time.Duration, why *webhook.Error) error {
	switch {
	case !why.Final:
		_, err := l.failed(ctx, url, entered, asked)
		return err
	case why.Status != 0 && entered != 0:
		return l.succeeded(ctx, url)
	}
	return nil
}

// succeeded forgets the failures.
func (l *Letters) succeeded(ctx context.Context, url string) error {
	return wrap("note that an endpoint is well", l.client.Del(ctx, l.endpoint(url)).Err())
}
