package delivery

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/webhook"
)

// bury writes a letter with that many bytes of body.
func bury(t *testing.T, l *Letters, id string, body int) {
	t.Helper()
	if err := l.Bury(t.Context(), webhook.Letter{ID: id, URL: "http://x.example/?token=1", Body: make([]byte, body), Reason: "why"}); err != nil {
		t.Fatal(err)
	}
}

// accounted fails unless the sizes are those of the letters in the index, and
// returns their sum.
func accounted(t *testing.T, c redis.UniversalClient, l *Letters) (total int64) {
	t.Helper()
	sizes := c.HGetAll(t.Context(), l.sizes()).Val()
	index := c.ZRange(t.Context(), l.base, 0, -1).Val()
	for _, id := range index {
		size := int64(0)
		for _, value := range c.HGetAll(t.Context(), l.letter(id)).Val() {
			size += int64(len(value))
		}
		if sizes[id] != strconv.FormatInt(size, 10) {
			t.Errorf("%s has %d bytes, and %q are noted", id, size, sizes[id])
		}
		total += size
	}
	if len(index) == 0 && len(sizes) == 0 {
		return 0
	}
	if sizes["="] != strconv.FormatInt(total, 10) || len(sizes) != len(index)+1 {
		t.Errorf("%d letters have %d bytes, and noted is %v", len(index), total, sizes)
	}
	return total
}

func listed(t *testing.T, l *Letters) string {
	t.Helper()
	page, _, err := l.List(t.Context(), "", MaxPage)
	if err != nil {
		t.Fatal(err)
	}
	return ids(page)
}

func TestBytesAreBounded(t *testing.T) {
	onBoth(t, func(t *testing.T, c redis.UniversalClient) {
		l := letters(t, c, LetterOptions{MaxBytes: 3000, Keep: time.Hour})
		at := time.Now()
		l.now = func() time.Time { at = at.Add(time.Second); return at }
		for _, tt := range []struct {
			id      string
			body    int
			want    string
			evicted int64
		}{
			{"a", 800, "a", 0},
			{"b", 800, "b a", 0},
			{"c", 800, "c b a", 0},
			{"c", 800, "c b a", 0}, // a call may be repeated
			{"d", 800, "d c b", 1},
			{"b", 10, "b d c", 1}, // it is newer then, and smaller
			{"e", 600, "e b d c", 1},
			{"f", 1900, "f e b", 3},
			{"large", 5000, "large", 6},
			{"g", 1, "g", 7},
		} {
			bury(t, l, tt.id, tt.body)
			if got := listed(t, l); got != tt.want || l.evicted.Load() != tt.evicted {
				t.Errorf("after %s: %s, want %s; %d have made room, want %d", tt.id, got, tt.want, l.evicted.Load(), tt.evicted)
			}
			accounted(t, c, l)
			if n, want := len(c.Keys(t.Context(), l.base+"*").Val()), strings.Count(tt.want, " ")+3; n != want {
				t.Errorf("after %s: %d keys, want %d", tt.id, n, want)
			}
		}
		if ttl := c.PTTL(t.Context(), l.sizes()).Val(); ttl <= 0 || ttl > time.Hour {
			t.Errorf("the sizes expire in %v", ttl)
		}
	})
}

// What leaves makes room by itself: nothing else has to.
func TestBytesOfWhatLeaves(t *testing.T) {
	onBoth(t, func(t *testing.T, c redis.UniversalClient) {
		l, s, e := letters(t, c, LetterOptions{MaxBytes: 3000, Keep: time.Hour}), sender(t), receive(t, 204)
		at := time.Now().Add(-30 * time.Minute)
		l.now = func() time.Time { at = at.Add(time.Second); return at }
		letter := webhook.Letter{URL: e.URL, Body: make([]byte, 800)}
		for _, letter.ID = range []string{"a", "b", "c"} {
			if err := l.Bury(t.Context(), letter); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Remove(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		accounted(t, c, l)
		e.answer(400, nil)
		var refused *webhook.Error
		if err := l.Replay(t.Context(), s, "b"); !errors.As(err, &refused) {
			t.Fatal(err)
		}
		accounted(t, c, l) // its reason is another one
		e.answer(204, nil)
		if err := l.Replay(t.Context(), s, "b"); err != nil {
			t.Fatal(err)
		}
		accounted(t, c, l)
		bury(t, l, "d", 800)
		bury(t, l, "e", 800)
		if got := listed(t, l); got != "e d c" || l.evicted.Load() != 0 {
			t.Errorf("%s, %d have made room", got, l.evicted.Load())
		}
		// What has expired leaves before anything makes room.
		c.Del(t.Context(), l.letter("c"))
		at = at.Add(time.Hour - 3*time.Second)
		bury(t, l, "f", 800)
		if got := listed(t, l); got != "f e d" || l.evicted.Load() != 0 {
			t.Errorf("%s, %d have made room", got, l.evicted.Load())
		}
		accounted(t, c, l)
		for _, id := range []string{"d", "e", "f"} {
			if err := l.Remove(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		if keys := c.Keys(t.Context(), l.base+"*").Val(); len(keys) != 0 {
			t.Errorf("%q is left", keys)
		}
	})
}

// A program from before there were sizes writes and drops letters without them,
// and they may be there still, or come beside those that have one.
func TestLettersWithoutSizes(t *testing.T) {
	onBoth(t, func(t *testing.T, c redis.UniversalClient) {
		l, s, e := letters(t, c, LetterOptions{MaxBytes: 4000, Keep: time.Hour}), sender(t), receive(t, 400)
		at := time.Now().Add(-30 * time.Minute)
		l.now = func() time.Time { at = at.Add(time.Second); return at }
		old := func(id string) {
			c.HSet(t.Context(), l.letter(id), "url", e.URL, "body", strings.Repeat("x", 800), "attempts", 5, "reason", "why", "time", stamp(at))
			c.ZAdd(t.Context(), l.base, redis.Z{Score: float64(l.now().UnixMilli()), Member: id})
		}
		for n := range 9 {
			old(fmt.Sprint("old", n))
		}
		var refused *webhook.Error
		if err := l.Replay(t.Context(), s, "old8"); !errors.As(err, &refused) {
			t.Errorf("one without a size: %v", err)
		}
		e.answer(204, nil)
		if err := l.Replay(t.Context(), s, "old8"); err != nil {
			t.Error(err)
		}
		if err := l.Remove(t.Context(), "old7"); err != nil {
			t.Error(err)
		}
		if got := listed(t, l); got != "old6 old5 old4 old3 old2 old1 old0" {
			t.Errorf("%s", got)
		}
		bury(t, l, "a", 800)
		if got := listed(t, l); got != "a old6 old5 old4" || l.evicted.Load() != 4 {
			t.Errorf("%s, %d have made room", got, l.evicted.Load())
		}
		accounted(t, c, l)
		// As many come as go.
		for n := range 3 {
			c.Del(t.Context(), l.letter(fmt.Sprint("old", n+4)))
			c.ZRem(t.Context(), l.base, fmt.Sprint("old", n+4))
			old(fmt.Sprint("beside", n))
		}
		for n := range 4 {
			bury(t, l, fmt.Sprint("b", n), 800)
		}
		if got := listed(t, l); got != "b3 b2 b1 b0" {
			t.Errorf("%s", got)
		}
		accounted(t, c, l)
		// All of it was dropped by hand, but for the sizes.
		c.Del(t.Context(), l.base, l.letter("b0"), l.letter("b1"), l.letter("b2"), l.letter("b3"))
		evicted := l.evicted.Load()
		for n := range 4 {
			bury(t, l, fmt.Sprint("c", n), 800)
		}
		if got := listed(t, l); got != "c3 c2 c1 c0" || l.evicted.Load() != evicted {
			t.Errorf("%s, %d have made room", got, l.evicted.Load()-evicted)
		}
		accounted(t, c, l)
	})
}

// A Redis that has no room takes no letter, not the half of one either, and
// lets those go that it has.
func TestLettersWithoutMemory(t *testing.T) {
	c := redis.NewClient(&redis.Options{Addr: testenv.NewRedis(t, testenv.RedisOptions{}).Addr})
	defer c.Close()
	l, s, e := letters(t, c, LetterOptions{}), sender(t), receive(t, 503)
	for _, id := range []string{"a", "b"} {
		if err := l.Bury(t.Context(), webhook.Letter{ID: id, URL: e.URL, Body: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if err := l.Bury(t.Context(), webhook.Letter{ID: "c", URL: e.URL}); !errors.Is(err, progress.ErrUnavailable) {
		t.Errorf("there is no memory: %v", err)
	}
	if got := listed(t, l); got != "b a" {
		t.Errorf("%s", got)
	}
	accounted(t, c, l)
	if err := l.Remove(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	accounted(t, c, l)
	if err := c.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	e.answer(204, nil)
	if err := l.Replay(t.Context(), s, "b"); err != nil {
		t.Error(err)
	}
	if keys := c.Keys(t.Context(), l.base+"*").Val(); len(keys) != 0 {
		t.Errorf("%q is left", keys)
	}
}
