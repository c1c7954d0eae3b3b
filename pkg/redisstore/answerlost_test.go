package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// again appends until it is answered, as a producer does.
func (h *harness) again(t testing.TB, a redisstore.Append) redisstore.Result {
	t.Helper()
	for range 5 {
		res, err := h.store.Append(t.Context(), a)
		if err == nil {
			return res
		}
		if !errors.Is(err, progress.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	t.Fatal("never answered")
	return redisstore.Result{}
}

// The script ran, its answer is lost, the client's own retry or the
// producer's runs it again: alone, in one round trip with the lists, and when
// the cache has been emptied in between, so that it is sent whole.
func TestAnswerLost(t *testing.T) {
	log := func(int64) progress.Event { return logs("id", "r", 1)[0] }
	mark := func(int64) progress.Event { return started("id") }
	for _, tt := range []struct {
		name  string
		event func(n int64) progress.Event
		flush bool
	}{
		{"the script alone", log, false},
		{"with the lists", mark, false},
		{"the script sent whole", log, true},
		{"the script sent whole, after the lists", mark, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
				h.append(t, numbered(1, started("id")))
				for n := int64(2); n < 12; n++ {
					if tt.flush {
						h.each(t, func(ctx context.Context, c *redis.Client) error { return c.ScriptFlush(ctx).Err() })
						h.faults.whole.Store(true)
					}
					h.faults.lose.Store(1)
					res := h.again(t, numbered(n, tt.event(n)))
					if res.Position.Seq != n || !res.Duplicate || h.faults.lose.Load() > 0 {
						t.Fatalf("%+v; %d answers were not lost", res, h.faults.lose.Load())
					}
				}
				if n := len(h.events(t, "id")); n != 11 {
					t.Fatalf("%d events, want 11", n)
				}
			})
		})
	}
}

// The first append of a workflow and its last are answered by a server whose
// connection then breaks.
func TestAnswerLostOfMarks(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		h.append(t, numbered(1, logs("warm", "r", 1)...))
		for i := range 5 {
			id := fmt.Sprint("id-", i)
			for n, e := range []progress.Event{started(id), event(id, "r", progress.TypeClosed, nil)} {
				h.faults.lose.Store(1)
				if res := h.again(t, numbered(int64(n+1), e)); res.Position.Seq != int64(n+1) {
					t.Fatalf("%+v", res)
				}
				h.faults.lose.Store(0)
			}
			if n := len(h.events(t, id)); n != 2 {
				t.Errorf("%s: %d events", id, n)
			}
		}
	})
}

// The writer died before it heard that its end was written; another one that
// repeats it writes the lists and tags in its place.
func TestDuplicateWritesTheIndexes(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		h.append(t, numbered(1, started("id", "tag")))
		end := numbered(2, event("id", "r", progress.TypeClosed, nil))
		args, err := h.another(t, h.opts).AppendArgs(end, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if h.sharded {
			args[0] = shardedPublish(args[0].(string))
		}
		keys := []string{h.key("id", ""), h.key("id", ":events"), h.key("id", ":producers")}
		if err := h.client.Eval(t.Context(), redisstore.AppendSource, keys, args...).Err(); err != nil {
			t.Fatal(err)
		}
		other := h.another(t, h.opts)
		if res, err := other.Append(t.Context(), end); err != nil || !res.Duplicate {
			t.Fatalf("%+v, %v", res, err)
		}
		eventually(t, "the lists and the tag to say that it has ended", func() bool {
			list, err := h.store.TagSummaries(t.Context(), "tag", 0)
			return err == nil && len(list) == 1 && list[0].Status == progress.StatusCompleted && !slices.Contains(h.runningIDs(t), "id")
		})
	})
}

// A message is only a wake-up: a channel that the writer may not publish on
// loses no event, and is counted.
func TestPublishFails(t *testing.T) {
	withUsers(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		s := h.user(t, "~*", "+@all") // all but the channels
		if _, err := s.Append(t.Context(), numbered(1, logs("id", "r", 3)...)); err != nil {
			t.Fatal(err)
		}
		if st := s.Stats(); st.PublishFailed != 3 || st.Events != 3 {
			t.Errorf("%+v", st)
		}
		if n := len(h.events(t, "id")); n != 3 {
			t.Errorf("%d events", n)
		}
	})
}
