package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

const (
	// followWithin is what is promised: so long after a slot has moved, or
	// after a replica was promoted, its topics deliver again.
	followWithin = 5 * time.Second
	// patience is what a test grants a machine that does much else.
	patience = 3 * followWithin
)

// traffic is many workflows that are written all the time, and a subscription
// to them that does what a subscriber must: read when told to.
type traffic struct {
	t        *testing.T
	writer   *redisstore.Store
	follower *redisstore.Store
	sub      *redisstore.Subscription
	ids      []string
	stop     context.CancelFunc
	wg       sync.WaitGroup
	reads    chan string

	mu    sync.Mutex
	acked map[string]int64     // the newest number that Redis has acknowledged
	known map[string]int64     // the newest number that has arrived
	since map[string]time.Time // when the oldest was acknowledged that has not
	worst time.Duration        // longest time from an acknowledgement to the arrival
	told  map[string]time.Time // when the newest Resync came
}

// startTraffic opens the Redis twice, as a worker and a subscriber would, and
// returns when every workflow is followed.
func startTraffic(t *testing.T, url string, workflows int, pingEvery time.Duration) *traffic {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	tr := &traffic{
		t: t, stop: cancel, reads: make(chan string, 100_000),
		acked: map[string]int64{}, known: map[string]int64{}, since: map[string]time.Time{},
		told: map[string]time.Time{},
	}
	open := func() *redisstore.Store {
		s, err := redisstore.Open(ctx, url, redisstore.Options{PingEvery: pingEvery})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	tr.writer, tr.follower = open(), open()
	tr.sub = tr.follower.Subscribe(tr)
	t.Cleanup(func() {
		cancel()
		tr.wg.Wait()
		tr.sub.Close()
	})
	var adds sync.WaitGroup
	for i := range workflows {
		id := fmt.Sprint("w-", i)
		tr.ids = append(tr.ids, id)
		adds.Go(func() {
			if err := tr.sub.Add(ctx, workflow(id)); err != nil {
				t.Errorf("add %s: %v", id, err)
			}
		})
	}
	adds.Wait()
	const writers, readers = 6, 4
	for w := range writers {
		tr.wg.Go(func() { tr.write(ctx, w, writers) })
	}
	for range readers {
		tr.wg.Go(func() { tr.read(ctx) })
	}
	tr.settle("the traffic to flow", tr.ids)
	tr.takeWorst()
	return tr
}

// write appends to every n-th workflow in turn. One that Redis does not take
// is tried again in the next round, under the same number.
func (tr *traffic) write(ctx context.Context, first, n int) {
	numbers := map[string]int64{}
	for ctx.Err() == nil {
		for i := first; i < len(tr.ids) && ctx.Err() == nil; i += n {
			id := tr.ids[i]
			a := numbered(numbers[id]+1, event(id, "r", progress.TypeLog, func(e *progress.Event) {
				e.Message = strconv.FormatInt(numbers[id]+1, 10)
			}))
			call, cancel := context.WithTimeout(ctx, time.Second)
			_, err := tr.writer.Append(call, a)
			cancel()
			switch {
			case err == nil:
				numbers[id]++
				tr.ack(id, numbers[id])
			case !errors.Is(err, progress.ErrUnavailable):
				tr.t.Errorf("append to %s: %v", id, err)
				return
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (tr *traffic) ack(id string, number int64) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.acked[id] = number
	if _, waits := tr.since[id]; !waits && tr.known[id] < number {
		tr.since[id] = time.Now()
	}
}

func (tr *traffic) knows(id string, data []byte) {
	e, err := progress.DecodeEvent(data)
	if err != nil {
		tr.t.Error(err)
		return
	}
	number, err := strconv.ParseInt(e.Message, 10, 64)
	if err != nil {
		tr.t.Error(err)
		return
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if number <= tr.known[id] {
		return
	}
	tr.known[id] = number
	if at, ok := tr.since[id]; ok {
		tr.worst = max(tr.worst, time.Since(at))
		delete(tr.since, id)
		if tr.acked[id] > number {
			tr.since[id] = time.Now()
		}
	}
}

func (tr *traffic) Message(t progress.Topic, data []byte) { tr.knows(t.Name, data) }

func (tr *traffic) Resync(t progress.Topic) {
	tr.mu.Lock()
	tr.told[t.Name] = time.Now()
	tr.mu.Unlock()
	tr.reads <- t.Name
}

// followed returns how long after at the last of the workflows was subscribed
// anew; 0 if all were before.
func (tr *traffic) followed(at time.Time, ids []string) time.Duration {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	var last time.Duration
	for _, id := range ids {
		last = max(last, tr.told[id].Sub(at))
	}
	return last
}

func (tr *traffic) read(ctx context.Context) {
	for {
		select {
		case id := <-tr.reads:
			call, cancel := context.WithTimeout(ctx, time.Second)
			v, err := tr.follower.Read(call, id, 1, 0)
			cancel()
			if err != nil {
				select {
				case <-time.After(50 * time.Millisecond):
					tr.reads <- id
				case <-ctx.Done():
				}
			} else if n := len(v.Events); n > 0 {
				tr.knows(id, v.Events[n-1].Data)
			}
		case <-ctx.Done():
			return
		}
	}
}

// settle waits until something has arrived of each workflow that was
// acknowledged after the call, and returns how long that took.
func (tr *traffic) settle(what string, ids []string) time.Duration {
	tr.t.Helper()
	begin := time.Now()
	tr.mu.Lock()
	acked := maps.Clone(tr.acked)
	tr.mu.Unlock()
	missing := 0
	for time.Since(begin) < patience {
		missing = 0
		tr.mu.Lock()
		for _, id := range ids {
			if tr.known[id] <= acked[id] {
				missing++
			}
		}
		tr.mu.Unlock()
		if missing == 0 {
			return time.Since(begin)
		}
		time.Sleep(5 * time.Millisecond)
	}
	tr.t.Fatalf("after %v, %d of %d workflows do not deliver: %s; %+v", patience, missing, len(ids), what, tr.follower.Stats())
	return 0
}

// takeWorst returns the longest time from an acknowledgement to the arrival
// since it was last called.
func (tr *traffic) takeWorst() time.Duration {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	worst := tr.worst
	tr.worst = 0
	return worst
}
