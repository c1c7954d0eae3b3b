package delivery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/webhook"
)

// The defaults of [LetterOptions].
const (
	DefaultKeep       = 14 * 24 * time.Hour
	DefaultMaxLetters = 10_000
	DefaultMaxBytes   = 64 << 20
)

// MaxPage bounds how many letters are listed at once.
const MaxPage = 200

// LetterOptions configures [Letters]. The zero value of each field is its
// default.
type LetterOptions struct {
	// Prefix stands in front of every key, followed by a colon. Default: none.
	Prefix string
	// Keep is how long a letter waits to be replayed.
	Keep time.Duration
	// Max bounds how many wait; the oldest make room, and are counted.
	Max int
	// MaxBytes bounds the bytes of all of them, bodies, URLs, reasons and IDs;
	// the oldest make room, and are counted. The newest stays, however large.
	MaxBytes int64
	// Pause is how long an endpoint is paused after [PauseAfter] failures one
	// after the other; it doubles with each further one, up to an hour. 0: 1m.
	Pause time.Duration
}

// Letters are the dead letters in Redis. It is safe for use by many
// goroutines.
type Letters struct {
	client redis.UniversalClient
	o      LetterOptions
	base   string
	now    func() time.Time
	// evicted counts letters that made room.
	evicted atomic.Int64
}

// NewLetters returns them on a client that the caller keeps and closes.
func NewLetters(c redis.UniversalClient, o LetterOptions) *Letters {
	o.Keep = cmp.Or(o.Keep, DefaultKeep)
	o.Max = cmp.Or(o.Max, DefaultMaxLetters)
	o.MaxBytes = cmp.Or(o.MaxBytes, DefaultMaxBytes)
	o.Pause = cmp.Or(o.Pause, time.Minute)
	l := &Letters{client: c, o: o, base: "{deadletters}", now: time.Now}
	if o.Prefix != "" {
		l.base = redisstore.EncodeID(strings.TrimSuffix(o.Prefix, ":")) + ":" + l.base
	}
	return l
}

func (l *Letters) letter(id string) string { return l.base + ":" + redisstore.EncodeID(id) }
func (l *Letters) claim(id string) string  { return l.letter(id) + ":replay" }

// Bury keeps a letter. One that is there already is written over, so the call
// may be repeated.
func (l *Letters) Bury(ctx context.Context, letter webhook.Letter) error {
	now := l.now()
	over, err := buryScript.Run(ctx, l.client, []string{l.base, l.sizes(), l.letter(letter.ID)},
		now.UnixMilli(), l.o.Keep.Milliseconds(), l.o.Max, l.o.MaxBytes, redisstore.EncodeID(letter.ID), l.base+":", stamp(now),
		"url", letter.URL, "body", letter.Body, "workflow_id", letter.WorkflowID, "run_id", letter.RunID,
		"subscriber", letter.Subscriber, "reason", letter.Reason, "attempts", letter.Attempts, "last", stamp(letter.Last),
	).Int64()
	l.evicted.Add(over)
	return wrap("keep a dead letter", err)
}

// List returns up to limit letters, newest first, and where the next page
// begins; "" is the first page, and means that there is no further one. A
// cursor that is none is an error that wraps [progress.ErrInvalid].
//
// A list goes to more people than may know a receiver's tokens: letters come
// without their bodies, and with URLs as [webhook.Redacted] shows them.
func (l *Letters) List(ctx context.Context, cursor string, limit int) ([]webhook.Letter, string, error) {
	limit = min(max(limit, 1), MaxPage)
	latest, after := "+inf", ""
	if cursor != "" {
		score, id, ok := strings.Cut(cursor, "-")
		if _, err := strconv.ParseUint(score, 10, 53); !ok || err != nil || id == "" {
			return nil, "", fmt.Errorf("%w: %.40q is not the cursor of a page", progress.ErrInvalid, cursor)
		}
		latest, after = score, id
	}
	letters := []webhook.Letter{}
	for offset := int64(0); ; {
		page, err := l.client.ZRevRangeByScoreWithScores(ctx, l.base, &redis.ZRangeBy{
			Min: "-inf", Max: latest, Offset: offset, Count: int64(limit) + 1,
		}).Result()
		if err != nil {
			return nil, "", wrap("list the dead letters", err)
		}
		offset += int64(len(page))
		for _, entry := range page {
			id, _ := entry.Member.(string)
			score := strconv.FormatInt(int64(entry.Score), 10)
			if score == latest && id >= after {
				continue // of the page before
			}
			if len(letters) == limit {
				return letters, cursor, nil
			}
			cursor = score + "-" + id
			letter, err := l.listed(ctx, id)
			if errors.Is(err, progress.ErrNotFound) {
				continue // it has expired, or somebody was faster
			}
			if err != nil {
				return nil, "", err
			}
			letters = append(letters, letter)
		}
		if len(page) <= limit {
			return letters, "", nil
		}
	}
}

// described are the fields of a letter but for its body.
var described = []string{"url", "workflow_id", "run_id", "subscriber", "reason", "attempts", "time", "last"}

// listed reads a letter of the index as lists show it: without its body, which
// may be long, and without what is secret in its URL.
func (l *Letters) listed(ctx context.Context, encoded string) (webhook.Letter, error) {
	id, err := redisstore.DecodeID(encoded)
	if err != nil {
		return webhook.Letter{}, l.none(encoded)
	}
	values, err := l.client.HMGet(ctx, l.letter(id), described...).Result()
	if err != nil {
		return webhook.Letter{}, wrap("read a dead letter", err)
	}
	fields := make(map[string]string)
	for i, name := range described {
		fields[name], _ = values[i].(string)
	}
	letter, err := l.parse(id, fields)
	if err == nil {
		letter.URL = webhook.Redacted(letter.URL)
	}
	return letter, err
}

// read returns a letter; one that is not there is [progress.ErrNotFound].
func (l *Letters) read(ctx context.Context, id string) (webhook.Letter, error) {
	fields, err := l.client.HGetAll(ctx, l.letter(id)).Result()
	if err != nil {
		return webhook.Letter{}, wrap("read a dead letter", err)
	}
	return l.parse(id, fields)
}

// parse makes a letter of its fields.
func (l *Letters) parse(id string, fields map[string]string) (webhook.Letter, error) {
	if fields["url"] == "" {
		return webhook.Letter{}, l.none(id)
	}
	letter := webhook.Letter{
		ID: id, URL: fields["url"], WorkflowID: fields["workflow_id"], RunID: fields["run_id"],
		Subscriber: fields["subscriber"], Reason: fields["reason"],
	}
	if body := fields["body"]; body != "" {
		letter.Body = []byte(body)
	}
	// What somebody has written by hand is left out.
	letter.Attempts, _ = strconv.Atoi(fields["attempts"])
	letter.Time, _ = time.Parse(time.RFC3339Nano, fields["time"])
	letter.Last, _ = time.Parse(time.RFC3339Nano, fields["last"])
	return letter, nil
}

var removeScript = script(`
-- KEYS: index, sizes, letter, claim. ARGV: ID. Returns whether the letter was there.
redis.call('ZREM', KEYS[1], ARGV[1])
forget(KEYS[1], KEYS[2], ARGV[1])
redis.call('DEL', KEYS[4])
return redis.call('DEL', KEYS[3])`)

// Remove drops a letter; one that is not there is [progress.ErrNotFound].
func (l *Letters) Remove(ctx context.Context, id string) error {
	if webhook.CheckID(id) != nil {
		return l.none(id)
	}
	n, err := removeScript.Run(ctx, l.client, []string{l.base, l.sizes(), l.letter(id), l.claim(id)}, redisstore.EncodeID(id)).Int()
	if err == nil && n == 0 {
		return l.none(id)
	}
	return wrap("remove a dead letter", err)
}

// stamp is a time as it is kept; the zero time is "".
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%w: %s: %w", progress.ErrUnavailable, what, err)
	}
	return nil
}
