package delivery

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/webhook"
)

// claimFor is how long a replay keeps others away, should its process end
// before it does: longer than a receiver may take.
const claimFor = webhook.DefaultTimeout + 20*time.Second

var claimScript = redis.NewScript(`
-- KEYS: letter, claim. ARGV: token, for how long in ms.
-- Returns 0 without a letter, 1 when it is ours, 2 when it is somebody else's.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return 2`)

var failedScript = script(`
-- KEYS: sizes, letter, claim. ARGV: token, reason, when, ID.
if redis.call('GET', KEYS[3]) == ARGV[1] then redis.call('DEL', KEYS[3]) end
if redis.call('EXISTS', KEYS[2]) == 1 then
	redis.call('HINCRBY', KEYS[2], 'attempts', 1)
	redis.call('HSET', KEYS[2], 'reason', ARGV[2], 'last', ARGV[3])
	-- Of a letter without a size the next one that is written finds out.
	if redis.call('HEXISTS', KEYS[1], ARGV[4]) == 1 then resize(KEYS[1], ARGV[4], KEYS[2]) end
end
return 0`)

var releaseScript = redis.NewScript(`
-- KEYS: claim. ARGV: token.
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`)

var takenScript = script(`
-- KEYS: index, sizes, letter, claim, endpoint. ARGV: ID.
redis.call('ZREM', KEYS[1], ARGV[1])
forget(KEYS[1], KEYS[2], ARGV[1])
return redis.call('DEL', KEYS[3], KEYS[4], KEYS[5])`)

// Replay sends a letter under the ID that it always had, and drops it once it
// was taken. While it is under way others get [webhook.ErrReplaying]. Should the
// process end in between, the letter stays, and is sent again by the next
// replay: the receiver knows it by its ID. An [*webhook.Error] is the
// receiver's; the letter stays then. It is sent although the endpoint is
// paused, and ends the pause when it is taken.
func (l *Letters) Replay(ctx context.Context, s *webhook.Sender, id string) error {
	if webhook.CheckID(id) != nil {
		return l.none(id)
	}
	token := rand.Text()
	claimed, err := claimScript.Run(ctx, l.client, []string{l.letter(id), l.claim(id)}, token, claimFor.Milliseconds()).Int()
	switch {
	case err != nil:
		return wrap("claim a dead letter", err)
	case claimed == 0:
		return l.none(id)
	case claimed == 2:
		return webhook.ErrReplaying
	}
	// Once it is sent, what became of it is written, whether or not somebody
	// still waits for the answer.
	ctx = context.WithoutCancel(ctx)
	letter, err := l.claimed(ctx, id, token)
	if err != nil {
		return err
	}
	err = s.Send(ctx, webhook.Message{ID: letter.ID, URL: letter.URL, Body: letter.Body})
	ctx, cancel := context.WithTimeout(ctx, redisFor)
	defer cancel()
	if err != nil {
		return errors.Join(err, l.untaken(ctx, letter, token, err))
	}
	return wrap("drop a dead letter that was taken", takenScript.Run(ctx, l.client,
		[]string{l.base, l.sizes(), l.letter(id), l.claim(id), l.endpoint(letter.URL)}, redisstore.EncodeID(id)).Err())
}

// claimed reads a letter that is claimed, and lets it go where that fails.
func (l *Letters) claimed(ctx context.Context, id, token string) (webhook.Letter, error) {
	ctx, cancel := context.WithTimeout(ctx, redisFor)
	defer cancel()
	letter, err := l.read(ctx, id)
	if err != nil {
		err = errors.Join(err, wrap("let a dead letter go", releaseScript.Run(ctx, l.client, []string{l.claim(id)}, token).Err()))
	}
	return letter, err
}

// untaken notes that a letter was not taken, and lets it go.
func (l *Letters) untaken(ctx context.Context, letter webhook.Letter, token string, why error) error {
	err := failedScript.Run(ctx, l.client, []string{l.sizes(), l.letter(letter.ID), l.claim(letter.ID)},
		token, why.Error(), stamp(l.now()), redisstore.EncodeID(letter.ID)).Err()
	if refused := (*webhook.Error)(nil); errors.As(why, &refused) {
		err = errors.Join(err, l.refused(ctx, letter.URL, unasked, refused.RetryAfter, refused))
	}
	return wrap("keep a dead letter", err)
}

// none is the error that there is no such letter.
func (l *Letters) none(id string) error {
	return fmt.Errorf("%w: there is no dead letter %.100q; it may have been replayed, or be older than %v", progress.ErrNotFound, id, l.o.Keep)
}
