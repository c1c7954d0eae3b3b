package delivery

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/progress"
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

var failedScript = redis.NewScript(`
-- KEYS: letter, claim. ARGV: token, reason, when.
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
if redis.call('EXISTS', KEYS[1]) == 1 then
	redis.call('HINCRBY', KEYS[1], 'attempts', 1)
	redis.call('HSET', KEYS[1], 'reason', ARGV[2], 'last', ARGV[3])
end
return 0`)

// Replay sends a letter under the ID that it always had, and drops it once it
// was taken. While it is under way others get [webhook.ErrReplaying]. Should the
// process end in between, the letter stays, and is sent again by the next
// replay: the receiver knows it by its ID. An [*webhook.Error] is the
// receiver's; the letter stays then. It is sent although the endpoint is
// paused, and ends the pause when it is taken.
func (l *Letters) Replay(ctx context.Context, s *webhook.Sender, id string) error {
	token := rand.Text()
	claimed, err := claimScript.Run(ctx, l.client, []string{l.letter(id), l.claim(id)}, token, claimFor.Milliseconds()).Int()
	switch {
	case err != nil:
		return wrap("claim a dead letter", err)
	case claimed == 0:
		return fmt.Errorf("%w: there is no dead letter %q; it may have been replayed, or be older than %v", progress.ErrNotFound, id, l.o.Keep)
	case claimed == 2:
		return webhook.ErrReplaying
	}
	// Once it is sent, what became of it is written, whether or not somebody
	// still waits for the answer.
	ctx = context.WithoutCancel(ctx)
	letter, err := l.read(ctx, encoded(id))
	if err == nil {
		err = s.Send(ctx, webhook.Message{ID: letter.ID, URL: letter.URL, Body: letter.Body})
	}
	ctx, cancel := context.WithTimeout(ctx, redisFor)
	defer cancel()
	if err != nil {
		reason := err.Error()
		err2 := failedScript.Run(ctx, l.client, []string{l.letter(id), l.claim(id)}, token, reason, stamp(l.now())).Err()
		if refused := (*webhook.Error)(nil); errors.As(err, &refused) {
			err2 = errors.Join(err2, l.refused(ctx, letter.URL, unasked, refused.RetryAfter, refused))
		}
		return errors.Join(err, wrap("keep a dead letter", err2))
	}
	if err := l.succeeded(ctx, letter.URL); err != nil {
		return err
	}
	if err := l.Remove(ctx, id); !errors.Is(err, progress.ErrNotFound) {
		return err
	}
	return nil
}
