package redisstore_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// between runs each pipeline that reads a workflow in two parts, with f in
// between: the commands whose place keep says first, then the others.
func between(first func(place int) bool, f func()) *hook {
	return &hook{instead: func(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
		if !mentions(cmds, ":events") || cmds[0].Name() != "hgetall" {
			return next(ctx, cmds)
		}
		var before, after []redis.Cmder
		for i, cmd := range cmds {
			if first(i) {
				before = append(before, cmd)
			} else {
				after = append(after, cmd)
			}
		}
		err := next(ctx, before)
		f()
		return errors.Join(err, next(ctx, after))
	}}
}

// Others write while a workflow is read. Whatever lands in between, no event
// is above the snapshot, and none is missing below it.
func TestReadIsConsistent(t *testing.T) {
	for _, tt := range []struct {
		name  string
		first func(place int) bool
		lost  bool // the stream begins anew in between
	}{
		{"after the hash", func(place int) bool { return place == 0 }, false},
		{"between two readings of the stream", func(place int) bool { return place < 2 }, false},
		{"a new stream after the hash", func(place int) bool { return place == 0 }, true},
		// As it is when the keys move to another node between the two.
		{"before the hash", func(place int) bool { return place > 0 }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
				other := h.another(t, h.opts)
				h.append(t, numbered(1, logs("id", "r", 5)...))
				n := int64(6)
				// Two streams of one millisecond would have one epoch, when
				// nothing is left to tell the second of the first.
				other.SetNow(func() time.Time { return time.Now().Add(time.Duration(n) * time.Hour) })
				var reads atomic.Int64
				h.client.AddHook(between(tt.first, func() {
					if reads.Add(1)%2 == 0 {
						return // others write in between, not each time
					}
					if tt.lost {
						for _, suffix := range []string{"", ":events", ":producers"} {
							h.client.Del(t.Context(), h.key("id", suffix))
						}
					}
					if _, err := other.Append(t.Context(), numbered(n, logs("id", "r", 3)...)); err != nil {
						t.Error(err)
					}
					n += 3
				}))
				for _, limit := range []int{0, 2, 100} {
					reads.Store(0)
					v, err := h.store.Read(t.Context(), "id", 1, limit)
					if err != nil {
						t.Fatal(err)
					}
					consistent(t, v, limit)
				}
			})
		})
	}
}

// consistent checks what Read promises, of a stream that holds all its events.
func consistent(t *testing.T, v progress.View, limit int) {
	t.Helper()
	want := v.Snapshot.Seq
	if limit > 0 {
		want = min(want, int64(limit))
	}
	if v.Snapshot.Epoch == 0 || int64(len(v.Events)) > want {
		t.Fatalf("%d events of a snapshot at %v, limit %d", len(v.Events), v.Snapshot.Position(), limit)
	}
	for i, raw := range v.Events {
		e, err := progress.DecodeEvent(raw.Data)
		if err != nil || e.Seq != int64(i+1) || e.Epoch != v.Snapshot.Epoch {
			t.Fatalf("event %d is %d of epoch %d, snapshot %v, %v", i, e.Seq, e.Epoch, v.Snapshot.Position(), err)
		}
		if e.Seq == v.Snapshot.Seq && e.Check != v.Snapshot.Check {
			t.Fatalf("the last event has check %s, the snapshot is at %v", e.Check, v.Snapshot.Position())
		}
	}
	if len(v.Events) > 0 && int64(len(v.Events)) < want {
		t.Fatalf("%d events of %d: some are missing below the snapshot", len(v.Events), want)
	}
}
