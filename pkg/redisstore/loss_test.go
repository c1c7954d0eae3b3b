package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// allKeys returns the keys under the test's prefix, on all nodes.
func (h *harness) allKeys(t testing.TB) []string {
	t.Helper()
	var keys []string
	var mu sync.Mutex // a cluster's nodes are asked side by side
	scan := func(ctx context.Context, c *redis.Client) error {
		it := c.Scan(ctx, 0, h.prefix+":*", 1000).Iterator()
		for it.Next(ctx) {
			mu.Lock()
			keys = append(keys, it.Val())
			mu.Unlock()
		}
		return it.Err()
	}
	h.each(t, scan)
	slices.Sort(keys)
	return slices.Compact(keys)
}

func numbered(n int64, events ...progress.Event) redisstore.Append {
	return redisstore.Append{
		WorkflowID: events[0].WorkflowID, Fence: fence(events[0].RunID, 1),
		Producer: redisstore.Producer{Name: "p"}, Number: n, Events: events,
	}
}

func TestLostHash(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		before := h.append(t, numbered(1, logs("id", "r", 3)...))
		if err := h.client.Del(t.Context(), h.key("id", "")).Err(); err != nil {
			t.Fatal(err)
		}
		// A stream without a hash is no workflow.
		if v, err := h.store.Read(t.Context(), "id", 0, 0); err != nil || v.Snapshot.Seq != 0 || len(v.Events) != 0 {
			t.Fatalf("%+v, %v", v, err)
		}
		after := h.append(t, numbered(4, logs("id", "r", 1)...))
		if after.Position.Seq != 1 || after.Position.Epoch == before.Position.Epoch || after.Lost != 3 {
			t.Fatalf("before %+v, after %+v", before, after)
		}
		if n := len(h.events(t, "id")); n != 1 {
			t.Fatalf("%d events", n)
		}
	})
}

func TestLostStream(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		before := h.append(t, numbered(1, logs("id", "r", 3)...))
		if err := h.client.Del(t.Context(), h.key("id", ":events")).Err(); err != nil {
			t.Fatal(err)
		}
		s, err := h.store.Snapshot(t.Context(), "id")
		if err != nil || s.FirstSeq != 0 || s.Seq != 3 {
			t.Fatalf("%+v, %v", s, err)
		}
		after := h.append(t, numbered(4, logs("id", "r", 1)...))
		if after.Position.Seq != 4 || after.Position.Epoch != before.Position.Epoch {
			t.Fatalf("before %+v, after %+v", before, after)
		}
		v, err := h.store.Read(t.Context(), "id", 0, 0)
		if err != nil || v.Snapshot.FirstSeq != 4 || len(v.Events) != 1 {
			t.Fatalf("%+v, %v", v, err)
		}
		for _, suffix := range []string{"", ":events", ":producers"} {
			if ttl := h.client.PTTL(t.Context(), h.key("id", suffix)).Val(); ttl <= 0 {
				t.Errorf("%q has no expiry", suffix)
			}
		}
	})
}

// A hash and a stream that disagree are of two histories.
func TestForkedHistory(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		before := h.append(t, numbered(1, logs("id", "r", 3)...))
		h.append(t, numbered(4, event("id", "r", "step", func(e *progress.Event) { e.Step = "left over" })))
		if err := h.client.XDel(t.Context(), h.key("id", ":events"), "4-0").Err(); err != nil {
			t.Fatal(err)
		}
		after := h.append(t, numbered(5, logs("id", "r", 1)...))
		if after.Position.Epoch == before.Position.Epoch || after.Position.Seq != 1 {
			t.Fatalf("%+v", after)
		}
		h.events(t, "id")
	})
}

// A hash that comes back beside the stream of a later history, with the same
// number: only the text of the last entry tells them apart.
func TestForkedHistoryOfTheSameLength(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		h.append(t, numbered(1, logs("id", "r", 3)...))
		old := h.stored(t, "id").Hash
		drop := func(suffixes ...string) {
			t.Helper()
			for _, suffix := range suffixes {
				if err := h.client.Del(t.Context(), h.key("id", suffix)).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, spoil := range []string{"epoch", "check"} {
			t.Run(spoil, func(t *testing.T) {
				drop("", ":events", ":producers")
				other := h.append(t, numbered(1, started("id"), logs("id", "r", 1)[0], logs("id", "r", 1)[0]))
				if spoil == "epoch" {
					drop("")
					if err := h.client.HSet(t.Context(), h.key("id", ""), old).Err(); err != nil {
						t.Fatal(err)
					}
				} else if err := h.client.HSet(t.Context(), h.key("id", ""), "check", old["check"]).Err(); err != nil {
					t.Fatal(err)
				}
				after := h.append(t, numbered(4, logs("id", "r", 1)...))
				epoch := strconv.FormatInt(after.Position.Epoch, 10)
				if after.Position.Seq != 1 || after.Position.Epoch == other.Position.Epoch || epoch == old["epoch"] || after.Lost != 3 {
					t.Fatalf("the hash of epoch %s beside the stream of %v went on at %+v", old["epoch"], other.Position, after)
				}
				if n := len(h.events(t, "id")); n != 1 {
					t.Errorf("%d events", n)
				}
			})
		}
	})
}

// A key that holds another kind of value is an error that stays, found before
// anything is written.
func TestWrongType(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		for _, suffix := range []string{"", ":events", ":producers"} {
			id := "id" + suffix
			if suffix == ":producers" {
				h.append(t, numbered(1, logs(id, "r", 1)...))
				h.client.Del(t.Context(), h.key(id, suffix))
			}
			h.client.Set(t.Context(), h.key(id, suffix), "x", 0)
			_, err := h.store.Append(t.Context(), numbered(2, logs(id, "r", 1)...))
			if err == nil || errors.Is(err, progress.ErrUnavailable) {
				t.Errorf("%s: %v", id, err)
			}
			if suffix == ":producers" {
				if n := len(h.events(t, id)); n != 1 {
					t.Errorf("%d events", n)
				}
				continue
			}
			for _, other := range []string{"", ":events", ":producers"} {
				if other != suffix && h.client.Exists(t.Context(), h.key(id, other)).Val() != 0 {
					t.Errorf("%s: half a write, %q is there", id, other)
				}
			}
		}
	})
}

func TestTrimming(t *testing.T) {
	contract(t, redisstore.Options{MaxLen: 200}, func(t *testing.T, h *harness) {
		for n := range int64(30) {
			h.append(t, numbered(n*50+1, logs("id", "r", 50)...))
		}
		v, err := h.store.Read(t.Context(), "id", 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		// Whole nodes go at a time, and a node holds at most 100 entries.
		most := 300
		if h.exact {
			most = 200
		}
		if n := len(v.Events); n < 200 || n > most || v.Snapshot.Seq != 1500 {
			t.Fatalf("%d events held of %d", n, v.Snapshot.Seq)
		}
		if v.Snapshot.FirstSeq != v.Events[0].Seq || v.Events[len(v.Events)-1].Seq != 1500 {
			t.Fatalf("first %d, events %d to %d", v.Snapshot.FirstSeq, v.Events[0].Seq, v.Events[len(v.Events)-1].Seq)
		}
		page, err := h.store.Read(t.Context(), "id", 1450, 10)
		if err != nil || len(page.Events) != 10 || page.Events[0].Seq != 1450 || page.Snapshot.Seq != 1500 {
			t.Fatalf("%+v, %v", page.Events, err)
		}
		shown, err := h.client.HGet(t.Context(), h.key("id", ""), "first_seq").Int64()
		if err != nil || shown < 1500-500 || shown > v.Snapshot.FirstSeq {
			t.Fatalf("the hash shows first_seq %d, it is %d", shown, v.Snapshot.FirstSeq)
		}
	})
}

func TestExpiry(t *testing.T) {
	contract(t, redisstore.Options{TTLRunning: time.Hour, TTLClosed: time.Minute}, func(t *testing.T, h *harness) {
		expiries := func(want time.Duration) {
			t.Helper()
			var ttls []time.Duration
			for _, suffix := range []string{"", ":events", ":producers"} {
				ttl := h.client.PTTL(t.Context(), h.key("id", suffix)).Val()
				if ttl > want || ttl < want*9/10-time.Second {
					t.Fatalf("%q expires in %v, want %v", suffix, ttl, want)
				}
				ttls = append(ttls, ttl)
			}
			if slices.Max(ttls)-slices.Min(ttls) > 50*time.Millisecond {
				t.Fatalf("expiries differ: %v", ttls)
			}
		}
		h.append(t, numbered(1, logs("id", "r", 1)...))
		expiries(time.Hour)
		for _, suffix := range []string{"", ":events", ":producers"} {
			h.client.PExpire(t.Context(), h.key("id", suffix), 30*time.Minute)
		}
		later := logs("id", "r", 1)
		later[0].Time = later[0].Time.Add(time.Minute)
		h.append(t, numbered(2, later...))
		expiries(time.Hour)
		h.append(t, numbered(3, event("id", "r", progress.TypeClosed, nil)))
		expiries(time.Minute)
		a := numbered(4, logs("id", "r2", 1)...)
		a.Fence.RunTime = t0.Add(time.Hour)
		h.append(t, a)
		expiries(time.Hour)
		// When the last producer has left, its key is gone; the next one
		// gets the same expiry as the others.
		if err := h.store.Leave(t.Context(), "id", redisstore.Producer{Name: "p"}); err != nil {
			t.Fatal(err)
		}
		a.Number = 1
		h.append(t, a)
		expiries(time.Hour)
	})
}

// Keys that have expired are gone: a reader finds nothing, and a writer begins
// a new stream and says what it lacks.
func TestExpired(t *testing.T) {
	const ttl = 300 * time.Millisecond
	contract(t, redisstore.Options{TTLRunning: ttl, TTLClosed: ttl}, func(t *testing.T, h *harness) {
		for _, closed := range []bool{false, true} {
			id := fmt.Sprint("closed ", closed)
			events := logs(id, "r", 2)
			if closed {
				events[1] = event(id, "r", progress.TypeClosed, nil)
			}
			before := h.append(t, numbered(1, events...))
			eventually(t, "the workflow to expire", func() bool {
				v, err := h.store.Read(t.Context(), id, 0, 0)
				return err == nil && v.Snapshot.Seq == 0 && len(v.Events) == 0
			})
			if _, err := h.store.Snapshot(t.Context(), id); !errors.Is(err, progress.ErrNotFound) {
				t.Errorf("closed %t: %v", closed, err)
			}
			after := h.append(t, numbered(3, logs(id, "r", 1)...))
			if after.Position.Seq != 1 || after.Position.Epoch == before.Position.Epoch || after.Lost != 2 {
				t.Errorf("closed %t: before %+v, after %+v", closed, before, after)
			}
		}
	})
}

func TestEmptiedScriptCache(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		for n := range int64(5) {
			h.append(t, numbered(n+1, logs("id", "r", 1)...))
			h.each(t, func(ctx context.Context, c *redis.Client) error { return c.ScriptFlush(ctx).Err() })
			if err := h.store.Leave(t.Context(), "id", redisstore.Producer{Name: "other"}); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(h.events(t, "id")); n != 5 {
			t.Fatalf("%d events", n)
		}
	})
}

func TestOutOfMemory(t *testing.T) {
	srv := testenv.NewRedis(t, testenv.RedisOptions{MaxMemory: "4mb"})
	c := redis.NewClient(&redis.Options{Addr: srv.Addr, MaxRetries: -1})
	defer c.Close()
	s := redisstore.New(c, redisstore.Options{})
	defer s.Close()
	h := &harness{client: c, store: s}
	text := strings.Repeat("x", 8000)
	long := func() progress.Event {
		return event("id", "r", progress.TypeLog, func(e *progress.Event) { e.Message = text })
	}
	var full error
	n := int64(1)
	for ; n < 5000 && full == nil; n++ {
		_, full = s.Append(t.Context(), numbered(n, long(), long()))
		n++
	}
	if !errors.Is(full, progress.ErrUnavailable) || !strings.Contains(full.Error(), "OOM") {
		t.Fatalf("a server without memory answers %v", full)
	}
	if s.Stats().Unavailable != 1 {
		t.Error("the failure was not counted")
	}
	last := n - 3 // the last number that was written
	v, err := s.Read(t.Context(), "id", 0, 0)
	if err != nil || len(v.Events) == 0 || v.Snapshot.Seq != last || v.Events[len(v.Events)-1].Seq != last {
		t.Fatalf("half a write: the hash has seq %d, the stream %d events; %d were written (%v)", v.Snapshot.Seq, len(v.Events), last, err)
	}
	// A first append that is refused leaves nothing either. Freed buffers may
	// have made a little room meanwhile, so the bound goes below what is used.
	if err := c.ConfigSet(t.Context(), "maxmemory", "100kb").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), numbered(1, logs("new", "r", 1)...)); err == nil {
		t.Fatal("a new workflow was written without memory")
	}
	keys, err := c.Keys(t.Context(), "*{new}*").Result()
	if err != nil || len(keys) != 0 {
		t.Fatalf("%q, %v", keys, err)
	}
	// With memory the producer goes on where it was.
	if err := c.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	if res := h.append(t, numbered(last+1, logs("id", "r", 1)...)); res.Lost != 0 || res.Position.Seq != last+1 {
		t.Fatalf("%+v", res)
	}
}

// The suite says that it holds on Redis 7.
func TestServersAreRedis7(t *testing.T) {
	for _, s := range servers[:2] {
		h := newHarness(t, s, redisstore.Options{})
		h.each(t, func(ctx context.Context, c *redis.Client) error {
			info, err := c.Info(ctx, "server").Result()
			_, version, _ := strings.Cut(info, "redis_version:")
			major, _, _ := strings.Cut(version, ".")
			if n, _ := strconv.Atoi(major); err == nil && n < 7 {
				err = fmt.Errorf("the tests' Redis server has version %.6q; needed is 7", version)
			}
			return err
		})
	}
}

func TestCheckServer(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		if err := h.store.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		if err := h.store.CheckServer(t.Context()); err != nil {
			t.Error(err)
		}
	})
	srv := testenv.NewRedis(t, testenv.RedisOptions{MaxMemory: "100mb", Args: []string{"--maxmemory-policy", "allkeys-lru"}})
	s, err := redisstore.Open(t.Context(), srv.URL(), redisstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.CheckServer(t.Context()); err == nil || !strings.Contains(err.Error(), "noeviction") {
		t.Errorf("an evicting server: %v", err)
	}
	srv.Stop()
	if err := s.Ping(t.Context()); !errors.Is(err, progress.ErrUnavailable) {
		t.Errorf("no server: %v", err)
	}
}

func TestHeads(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		var ids []string
		want := map[string]progress.Position{}
		for i := range 50 {
			id := fmt.Sprint("id-", i)
			ids = append(ids, id)
			if i%3 > 0 {
				want[id] = h.append(t, numbered(1, logs(id, "r", i%3)...)).Position
			}
		}
		heads, err := h.store.Heads(t.Context(), ids)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range heads {
			if p != want[ids[i]] {
				t.Errorf("%s: %v, want %v", ids[i], p, want[ids[i]])
			}
		}
	})
}
