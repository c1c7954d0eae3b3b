package strategy_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/strategy"
)

// piped is a store of a test's own with the strategy on it, without Temporal.
func piped(t *testing.T, url string) (*world, *redisstore.Store) {
	t.Helper()
	store, err := redisstore.Open(t.Context(), url, redisstore.Options{Prefix: testenv.Prefix(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	p := strategy.NewRedis(store, strategy.RedisOptions{CheckEvery: 200 * time.Millisecond})
	t.Cleanup(func() { p.Close() })
	return &world{t: t, strategy: p, calls: &callCounter{}}, store
}

// write appends an event of the workflow "wf".
func write(t *testing.T, s *redisstore.Store, e progress.Event) {
	t.Helper()
	e.WorkflowID, e.RunID, e.Chain, e.Time = "wf", "run", "run", time.Now()
	_, err := s.Append(t.Context(), redisstore.Append{
		WorkflowID: "wf", Fence: redisstore.Fence{RunID: "run", Chain: "run", RunTime: time.UnixMilli(1)}, Events: []progress.Event{e},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func countEvent(n int64) progress.Event {
	return progress.Event{Type: progress.TypeProgress, Current: &n}
}

// Without Temporal, what Redis does not know is not there.
func TestRedisAlone(t *testing.T) {
	t.Parallel()
	w, _ := piped(t, testenv.Redis(t).URL())
	if err := w.watch("wf", progress.Position{}).failure(); !errors.Is(err, progress.ErrNotFound) {
		t.Errorf("the error is %v", err)
	}
}

// A position that is not the stream's, and a stream that begins anew, are
// gaps: they are told, and what is held follows.
func TestRedisGap(t *testing.T) {
	t.Parallel()
	server := testenv.NewRedis(t, testenv.RedisOptions{})
	w, store := piped(t, server.URL())
	for n := range int64(3) {
		write(t, store, countEvent(n+1))
	}
	for _, at := range []progress.Position{{Epoch: 1, Seq: 2, Check: "00000000"}, {Epoch: 1, Seq: 200, Check: "00000000"}} {
		v := w.watch("wf", at)
		if n, before := v.notice(strategy.Gap); len(before) > 0 || !strings.Contains(n.Reason, at.String()) {
			t.Errorf("the notice is %v, behind %s", n, list(before))
		}
		if events := v.until("the count", counted(3)); len(events) != 3 {
			t.Errorf("behind the gap come %s", list(events))
		}
	}
	v := w.watch("wf", progress.Position{})
	v.until("the count", counted(3))
	if err := store.Client().FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	write(t, store, countEvent(4))
	v.notice(strategy.Gap)
	v.until("the count", counted(4))
}

// A hash whose stream is gone is asked for less and less, and the caller is
// told; what comes then is followed.
func TestRedisWithoutTheStream(t *testing.T) {
	t.Parallel()
	server := testenv.NewRedis(t, testenv.RedisOptions{})
	w, store := piped(t, server.URL())
	write(t, store, countEvent(1))
	streams, err := store.Client().Do(t.Context(), "SCAN", "0", "COUNT", "1000", "TYPE", "stream").Slice()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range streams[1].([]any) {
		if err := store.Client().Do(t.Context(), "DEL", key).Err(); err != nil {
			t.Fatal(err)
		}
	}
	reads := &readCounter{Store: store}
	p := strategy.NewRedis(reads, strategy.RedisOptions{CheckEvery: time.Hour})
	t.Cleanup(func() { p.Close() })
	w.strategy = p
	v := w.watch("wf", progress.Position{})
	v.notice(strategy.Stale)
	if n := reads.n.Load(); n > 10 {
		t.Errorf("it has read %d times before it said so", n)
	}
	write(t, store, countEvent(2))
	v.notice(strategy.Live)
	v.until("the count", counted(2))
}

// readCounter counts the reads of a store.
type readCounter struct {
	strategy.Store
	n atomic.Int64
}

func (c *readCounter) Read(ctx context.Context, id string, from int64, limit int) (progress.View, error) {
	c.n.Add(1)
	return c.Store.Read(ctx, id, from, limit)
}

// Redis away is told once, and what was written meanwhile comes.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	server := testenv.NewRedis(t, testenv.RedisOptions{})
	w, store := piped(t, server.URL()+"?read_timeout=500ms&max_retries=-1")
	write(t, store, countEvent(1))
	v := w.watch("wf", progress.Position{})
	v.until("the count", counted(1))
	resume := server.Pause(t)
	if n, _ := v.notice(strategy.Stale); !strings.Contains(n.Reason, "Redis") {
		t.Errorf("the notice is %v", n)
	}
	resume()
	v.notice(strategy.Live)
	write(t, store, countEvent(2))
	v.until("the count", counted(2))
	write(t, store, progress.Event{Type: progress.TypeClosed, Status: progress.StatusCompleted})
	v.closed()
	if len(v.notices) > 1 { // a machine that is busy may be away again
		t.Logf("the further notices are %v", v.notices)
	}
}
