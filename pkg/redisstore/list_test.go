package redisstore_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

func started(id string, tags ...string) progress.Event {
	return event(id, "r", progress.TypeStarted, func(e *progress.Event) { e.Tags, e.WorkflowType = tags, "Type" })
}

func (h *harness) all(t testing.TB, q redisstore.ListQuery) []string {
	t.Helper()
	var ids []string
	for {
		items, next, err := h.store.List(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range items {
			ids = append(ids, it.WorkflowID)
		}
		if next == "" {
			return ids
		}
		q.Cursor = next
	}
}

func (h *harness) runningIDs(t testing.TB) []string {
	t.Helper()
	var ids []string
	for id, err := range h.store.Running(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func TestList(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		const n = 250
		for i := range n {
			id := fmt.Sprintf("id %03d", i)
			h.append(t, numbered(1, started(id)))
			if i%10 == 0 {
				h.append(t, numbered(2, event(id, "r", progress.TypeClosed, nil)))
			}
		}
		for _, limit := range []int{7, 50, 1000} {
			ids := h.all(t, redisstore.ListQuery{Limit: limit})
			if len(ids) != n {
				t.Fatalf("limit %d: %d workflows", limit, len(ids))
			}
			// In one millisecond the IDs decide, so exact order is not known.
			if ids[0] < "id 200" || ids[n-1] > "id 050" {
				t.Errorf("limit %d: from %s to %s", limit, ids[0], ids[n-1])
			}
			slices.Sort(ids)
			if len(slices.Compact(ids)) != n {
				t.Fatalf("limit %d: some were listed twice", limit)
			}
		}
		if ids := h.all(t, redisstore.ListQuery{Status: "completed", Limit: 3}); len(ids) != n/10 {
			t.Errorf("%d completed", len(ids))
		}
		if ids := h.all(t, redisstore.ListQuery{Status: "running"}); len(ids) != n-n/10 {
			t.Errorf("%d running", len(ids))
		}
		if ids := h.all(t, redisstore.ListQuery{Type: "Other"}); len(ids) != 0 {
			t.Errorf("%d of another type", len(ids))
		}
		eventually(t, "closed workflows to leave the running list", func() bool { return len(h.runningIDs(t)) == n-n/10 })
		for _, cursor := range []string{"x", "-1-a", "12", "12-"} {
			if _, _, err := h.store.List(t.Context(), redisstore.ListQuery{Cursor: cursor}); !errors.Is(err, progress.ErrInvalid) {
				t.Errorf("cursor %q: %v", cursor, err)
			}
		}
	})
}

// Many workflows that changed in the same millisecond.
func TestListTies(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		const n = 450
		tag := h.prefix + ":tag:{same}"
		for i := range n {
			h.append(t, numbered(1, started(fmt.Sprint("id-", i), "same")))
		}
		h.store.Close() // writes what waits
		members := h.client.ZRange(t.Context(), tag, 0, -1).Val()
		if len(members) != n {
			t.Fatalf("%d members", len(members))
		}
		for _, m := range members {
			h.client.ZAdd(t.Context(), tag, redis.Z{Score: 5, Member: m})
		}
		ids := h.all(t, redisstore.ListQuery{Tag: "same", Limit: 30})
		slices.Sort(ids)
		if len(slices.Compact(ids)) != n {
			t.Fatalf("%d workflows", len(ids))
		}
	})
}

func TestTags(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		tag := "größe {1}"
		topic := progress.Topic{Kind: progress.TopicTag, Name: tag}
		sub, got := h.subscribe(t)
		h.add(t, sub, topic)
		h.append(t, numbered(1, started("id", tag, "other")))
		var sum progress.Summary
		last := func(status progress.Status) {
			t.Helper()
			for sum.Status != status {
				m := got.next(t)
				if err := json.Unmarshal([]byte(m.data), &sum); err != nil || m.topic != topic {
					t.Fatalf("%+v, %v", m, err)
				}
			}
		}
		last("running")
		// Steps between come throttled, the end at once and always.
		for n := range int64(50) {
			h.append(t, numbered(n+2, logs("id", "r", 1)...))
		}
		begin := time.Now()
		h.append(t, numbered(52, event("id", "r", progress.TypeClosed, nil)))
		last("completed")
		if d := time.Since(begin); d > 900*time.Millisecond {
			t.Errorf("the end took %v", d)
		}
		list, err := h.store.TagSummaries(t.Context(), tag, 0)
		if err != nil || len(list) != 1 || list[0].Status != "completed" || list[0].WorkflowID != "id" {
			t.Fatalf("%+v, %v", list, err)
		}
		if ids := h.all(t, redisstore.ListQuery{Tag: "other"}); !slices.Equal(ids, []string{"id"}) {
			t.Errorf("%q", ids)
		}
		// A later chain without the tag leaves it.
		a := numbered(53, event("id", "r2", progress.TypeStarted, func(e *progress.Event) { e.Tags = []string{"other"} }))
		a.Fence.RunTime = t0.Add(time.Hour)
		h.append(t, a)
		eventually(t, "the tag to be empty", func() bool {
			list, err := h.store.TagSummaries(t.Context(), tag, 0)
			return err == nil && len(list) == 0
		})
	})
}

func TestRepair(t *testing.T) {
	contract(t, redisstore.Options{TTLRunning: time.Hour}, func(t *testing.T, h *harness) {
		ctx := t.Context()
		h.append(t, numbered(1, started("open", "tag")))
		h.append(t, numbered(1, started("closed", "tag"), event("closed", "r", progress.TypeClosed, nil)))
		eventually(t, "lists", func() bool { return slices.Equal(h.runningIDs(t), []string{"open"}) })
		h.store.Close()
		// All indexes are lost, and one is wrong.
		for _, key := range h.allKeys(t) {
			if key[len(h.prefix):][:5] != ":work" {
				h.client.Del(ctx, key)
			}
		}
		if ids := h.runningIDs(t); len(ids) != 0 {
			t.Fatal(ids)
		}
		for n := range 16 {
			h.client.ZAdd(ctx, fmt.Sprintf("%s:running:{%d}", h.prefix, n), redis.Z{Score: 1, Member: "gone"}, redis.Z{Score: 1, Member: "closed"})
			h.client.ZAdd(ctx, fmt.Sprintf("%s:recent:{%d}", h.prefix, n), redis.Z{Score: 1, Member: "gone"})
		}
		h.client.PExpire(ctx, h.key("open", ""), time.Minute)
		for range 20 {
			for _, id := range []string{"open", "closed", "gone"} {
				if err := h.store.Repair(ctx, id); err != nil {
					t.Fatal(err)
				}
			}
		}
		ids := slices.DeleteFunc(h.runningIDs(t), func(id string) bool { return id == "gone" || id == "closed" })
		if !slices.Equal(ids, []string{"open"}) {
			t.Errorf("running: %q", ids)
		}
		if n := len(h.runningIDs(t)); n != 1+15+15 { // each left its own shard
			t.Errorf("%d running", n)
		}
		if ttl := h.client.PTTL(ctx, h.key("open", "")).Val(); ttl < 59*time.Minute {
			t.Errorf("the open one expires in %v", ttl)
		}
		tagged := h.all(t, redisstore.ListQuery{Tag: "tag"})
		slices.Sort(tagged)
		if !slices.Equal(tagged, []string{"closed", "open"}) {
			t.Errorf("tag: %q", tagged)
		}
		recent := h.all(t, redisstore.ListQuery{})
		slices.Sort(recent)
		if !slices.Equal(recent, []string{"closed", "open"}) {
			t.Errorf("recent: %q", recent)
		}
	})
}

// A close that lands while the workflow is repaired keeps its own expiry.
func TestRepairMeetsAClose(t *testing.T) {
	contract(t, redisstore.Options{TTLRunning: 24 * time.Hour, TTLClosed: time.Minute}, func(t *testing.T, h *harness) {
		h.append(t, numbered(1, started("id")))
		other := h.another(t, h.opts)
		closed := false
		h.client.AddHook(&hook{before: func(cmds []redis.Cmder) {
			if closed || !mentions(cmds, h.key("id", ":producers")) {
				return
			}
			closed = true
			if _, err := other.Append(t.Context(), numbered(2, event("id", "r", progress.TypeClosed, nil))); err != nil {
				t.Error(err)
			}
		}})
		if err := h.store.Repair(t.Context(), "id"); err != nil || !closed {
			t.Fatalf("closed meanwhile: %t, %v", closed, err)
		}
		for _, suffix := range []string{"", ":events", ":producers"} {
			if ttl := h.client.PTTL(t.Context(), h.key("id", suffix)).Val(); ttl <= 0 || ttl > time.Minute {
				t.Errorf("%q of a closed workflow expires in %v", suffix, ttl)
			}
		}
	})
}
