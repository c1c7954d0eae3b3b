package redisstore_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// Short workflows end without a reconciler ever seeing them, so the sets that
// they leave behind must not need it to stay small.
func TestEndsPruneTheSets(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		const gone, n = 200, 100
		ctx := t.Context()
		tag, summaries := h.prefix+":tag:{tag}", h.prefix+":tag:{tag}:summaries"
		recent := h.prefix + ":recent:{0}"
		p := h.client.Pipeline()
		for i := range gone {
			member := fmt.Sprint("gone-", i)
			p.ZAdd(ctx, tag, redis.Z{Score: 1, Member: member})
			p.HSet(ctx, summaries, member, "{}")
			p.ZAdd(ctx, recent, redis.Z{Score: 1, Member: member})
		}
		if _, err := p.Exec(ctx); err != nil {
			t.Fatal(err)
		}
		ended := 0
		for i := 0; ended < n; i++ {
			id := fmt.Sprint("id-", i)
			if redisstore.Shard(id) != 0 {
				continue
			}
			ended++
			h.append(t, numbered(1, started(id, "tag"), event(id, "r", progress.TypeClosed, nil)))
		}
		for _, set := range []string{tag, recent} {
			eventually(t, "what is gone to leave "+set, func() bool {
				members := h.client.ZRange(ctx, set, 0, -1).Val()
				left := len(slices.DeleteFunc(slices.Clone(members), func(m string) bool { return m[:3] == "id-" }))
				return left <= gone/2 && len(members)-left == n
			})
		}
		eventually(t, "as many summaries as members", func() bool {
			return h.client.ZCard(ctx, tag).Val() == h.client.HLen(ctx, summaries).Val()
		})
	})
}

// Another process gave the workflow its earlier tags, and knows nothing of
// their end.
func TestRepairPrunesTagsThatWereTakenAway(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		other := redisstore.New(h.client, h.opts)
		if _, err := other.Append(t.Context(), numbered(1, started("id", "old", "both"))); err != nil {
			t.Fatal(err)
		}
		if _, err := other.Append(t.Context(), numbered(1, started("second", "old"))); err != nil {
			t.Fatal(err)
		}
		other.Close()
		h.append(t, numbered(2, event("id", "r", progress.TypeProgress, func(e *progress.Event) { e.Tags = []string{"both"} })))
		h.store.Close()
		tagged := func() []string { return h.client.ZRange(t.Context(), h.prefix+":tag:{old}", 0, -1).Val() }
		if len(tagged()) != 2 {
			t.Fatalf("tagged: %q", tagged())
		}
		for _, id := range []string{"id", "second"} {
			if err := h.store.Repair(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		if got := tagged(); !slices.Equal(got, []string{"second"}) {
			t.Errorf("tagged: %q", got)
		}
		list, err := h.store.TagSummaries(t.Context(), "old", 0)
		if err != nil || len(list) != 1 || list[0].WorkflowID != "second" {
			t.Errorf("%+v, %v", list, err)
		}
	})
}

// One workflow that a foreign writer has spoiled hides no other.
func TestBrokenWorkflowsHideNoOthers(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		ctx := t.Context()
		for _, id := range []string{"good", "broken", "mistyped"} {
			h.append(t, numbered(1, started(id, "tag")))
		}
		eventually(t, "the tag", func() bool { return h.client.ZCard(ctx, h.prefix+":tag:{tag}").Val() == 3 })
		h.client.HSet(ctx, h.key("broken", ""), "percent", "half")
		h.client.Del(ctx, h.key("mistyped", ""))
		h.client.Set(ctx, h.key("mistyped", ""), "text", 0)
		if ids := h.all(t, redisstore.ListQuery{}); !slices.Equal(ids, []string{"good"}) {
			t.Errorf("listed %q", ids)
		}
		// The same batch writes the tags of both.
		h.append(t, numbered(2, event("broken", "r", progress.TypeLog, nil)))
		h.append(t, numbered(2, event("good", "r", progress.TypeClosed, nil)))
		eventually(t, "the end in the tag's summary", func() bool {
			list, err := h.store.TagSummaries(ctx, "tag", 0)
			return err == nil && slices.ContainsFunc(list, func(s progress.Summary) bool { return s.Status == progress.StatusCompleted })
		})
		if err := h.store.Repair(ctx, "broken"); err == nil {
			t.Error("the repair of a broken workflow says nothing")
		}
	})
}

// A list that could not be written is written later, without a further event.
func TestListsAreWrittenLater(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		running := fmt.Sprintf("%s:running:{%d}", h.prefix, redisstore.Shard("id"))
		h.client.Set(t.Context(), running, "in the way", 0)
		h.append(t, numbered(1, started("id")))
		h.client.Del(t.Context(), running)
		if s := h.store.Stats(); s.IndexErrors != 1 {
			t.Errorf("stats = %+v", s)
		}
		begin := time.Now()
		eventually(t, "the workflow in the list", func() bool { return slices.Equal(h.runningIDs(t), []string{"id"}) })
		if d := time.Since(begin); d > 10*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}
