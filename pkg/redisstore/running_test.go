package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// A run whose writer dies right after its first append is in the lists, on a
// cluster too, where they are on another node.
func TestRunsAreListedBeforeTheyExist(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		var order []string
		h.client.AddHook(&hook{before: func(cmds []redis.Cmder) {
			for _, cmd := range cmds {
				switch cmd.Name() {
				case "zadd", "evalsha":
					order = append(order, cmd.Name())
				}
			}
		}})
		h.append(t, numbered(1, started("id")))
		if want := []string{"zadd", "zadd", "evalsha"}; !slices.Equal(order, want) {
			t.Errorf("the client sends %q, want %q", order, want)
		}
	})
	t.Run("lists on a slow node", func(t *testing.T) {
		h := newHarness(t, servers[1], redisstore.Options{})
		nodes := testenv.Cluster(t).Addrs()
		node := func(key string) int { return redisstore.Slot(key) * len(nodes) / 16384 }
		var id, list string
		for i := 0; id == ""; i++ {
			name := fmt.Sprint("id-", i)
			list = fmt.Sprintf("%s:running:{%d}", h.prefix, redisstore.Shard(name))
			if node(list) != node(h.key(name, "")) {
				id = name
			}
		}
		h.each(t, func(ctx context.Context, c *redis.Client) error {
			return c.ScriptLoad(ctx, redisstore.AppendSource).Err()
		})
		slow := redis.NewClient(&redis.Options{Addr: nodes[node(list)]})
		defer slow.Close()
		if err := slow.Do(t.Context(), "CLIENT", "PAUSE", "300", "WRITE").Err(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := h.store.Append(t.Context(), numbered(1, started(id)))
			done <- err
		}()
		eventually(t, "the run", func() bool { return h.client.HGet(t.Context(), h.key(id, ""), "seq").Val() == "1" })
		if err := slow.ZScore(t.Context(), list, id).Err(); err != nil {
			t.Errorf("the run is there and not listed: %v", err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// The lists' node is away for good: the run is written all the same, and
// listed when it can be.
func TestListsThatHangDoNotStopRuns(t *testing.T) {
	h := newHarness(t, servers[1], redisstore.Options{})
	h.client.AddHook(&hook{instead: func(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
		if !mentions(cmds, ":running:{") {
			return next(ctx, cmds)
		}
		<-ctx.Done()
		for _, cmd := range cmds {
			cmd.SetErr(ctx.Err())
		}
		return ctx.Err()
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	if _, err := h.store.Append(ctx, numbered(1, started("id"))); err != nil {
		t.Fatal(err)
	}
	if s := h.store.Stats(); s.IndexErrors == 0 {
		t.Errorf("not counted: %+v", s)
	}
}

// A refused append has put its workflow into the lists before it was refused.
func TestRefusedAppendsLeaveTheRunningList(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		h.append(t, numbered(1, started("closed"), event("closed", "r", progress.TypeClosed, nil)))
		h.append(t, numbered(1, started("open")))
		next := numbered(2, event("open", "r2", progress.TypeStarted, nil))
		next.Fence.RunTime = t0.Add(time.Hour)
		h.append(t, next)
		eventually(t, "the closed one to leave the list", func() bool { return slices.Equal(h.runningIDs(t), []string{"open"}) })
		late := h.another(t, redisstore.Options{})
		for id, want := range map[string]error{"closed": progress.ErrClosed, "open": progress.ErrSuperseded} {
			if _, err := late.Append(t.Context(), numbered(9, logs(id, "r", 1)...)); !errors.Is(err, want) {
				t.Fatalf("%s: %v", id, err)
			}
		}
		eventually(t, "the closed one to leave the list again", func() bool { return slices.Equal(h.runningIDs(t), []string{"open"}) })
		late.Close()
		if ids := h.runningIDs(t); !slices.Equal(ids, []string{"open"}) {
			t.Errorf("running: %q", ids)
		}
	})
}

// A writer whose clock is ahead closes a run while another, whose clock is
// right, begins the next one.
func TestClocksThatDiffer(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		h.append(t, numbered(1, started("id")))
		right := h.another(t, redisstore.Options{})
		h.store.SetNow(func() time.Time { return time.Now().Add(time.Hour) })
		began := make(chan struct{})
		h.client.AddHook(&hook{before: func(cmds []redis.Cmder) {
			select {
			case <-began:
				return
			default:
			}
			if !mentions(cmds, "unindex.lua") {
				return
			}
			defer close(began)
			a := numbered(2, event("id", "r2", progress.TypeStarted, nil))
			a.Fence.RunTime = t0.Add(time.Hour)
			if _, err := right.Append(t.Context(), a); err != nil {
				t.Error(err)
			}
		}})
		h.append(t, numbered(2, event("id", "r", progress.TypeClosed, nil)))
		h.store.Close() // writes what waits
		<-began
		if ids := h.runningIDs(t); !slices.Equal(ids, []string{"id"}) {
			t.Errorf("running: %q", ids)
		}
	})
}
