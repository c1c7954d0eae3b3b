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

// A key that a foreign writer has spoiled hides no other from what reads many
// at once.
func TestBrokenKeysHideNoOthers(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		ctx := t.Context()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		good := h.append(t, numbered(1, started("good", "tag"))).Position
		h.append(t, numbered(1, started("broken", "tag")))
		eventually(t, "the tag", func() bool { return h.client.HLen(ctx, h.prefix+":tag:{tag}:summaries").Val() == 2 })

		must(h.client.HSet(ctx, h.key("broken", ""), "seq", "x").Err())
		must(h.client.Set(ctx, h.key("mistyped", ""), "x", 0).Err())
		heads, err := h.store.Heads(ctx, []string{"broken", "good", "mistyped", "none"})
		unknown := progress.UnknownPosition
		if want := []progress.Position{unknown, good, unknown, {}}; err != nil || !slices.Equal(heads, want) {
			t.Errorf("heads %v, %v; want %v", heads, err, want)
		}
		if _, err := progress.ParsePosition(unknown.String()); err == nil || unknown.IsZero() {
			t.Errorf("the unknown position %q could be taken for one", unknown)
		}

		must(h.client.HSet(ctx, h.prefix+":tag:{tag}:summaries", "broken", "not JSON").Err())
		if list, err := h.store.TagSummaries(ctx, "tag", 0); err != nil || len(list) != 1 || list[0].WorkflowID != "good" {
			t.Errorf("summaries %+v, %v", list, err)
		}

		// A shard of the lists in which "good" is not.
		spoiled := (redisstore.Shard("good") + 8) % 16
		for _, list := range []string{"running", "recent"} {
			key := fmt.Sprintf("%s:%s:{%d}", h.prefix, list, spoiled)
			must(h.client.Del(ctx, key).Err())
			must(h.client.Set(ctx, key, "x", 0).Err())
		}
		var ids []string
		var errs []error
		for id, err := range h.store.Running(ctx) {
			if err != nil {
				errs = append(errs, err)
			} else {
				ids = append(ids, id)
			}
		}
		if len(errs) != 1 || errors.Is(errs[0], progress.ErrUnavailable) || !slices.Contains(ids, "good") {
			t.Errorf("running %q, errors %v", ids, errs)
		}
		if ids := h.all(t, redisstore.ListQuery{}); !slices.Contains(ids, "good") {
			t.Errorf("listed %q", ids)
		}
	})
}

// A master that is away takes its own workflows with it, and no others.
func TestOneMasterAway(t *testing.T) {
	cluster := testenv.NewCluster(t)
	for _, addr := range cluster.Addrs() {
		c := redis.NewClient(&redis.Options{Addr: addr})
		if err := c.ConfigSet(t.Context(), "cluster-require-full-coverage", "no").Err(); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	s, err := redisstore.Open(t.Context(), cluster.URL(), redisstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var ids []string
	want := map[string]progress.Position{}
	lost, shards := 0, 0
	for i := range 30 {
		id := fmt.Sprint("id-", i)
		ids = append(ids, id)
		res, err := s.Append(t.Context(), numbered(1, started(id)))
		if err != nil {
			t.Fatal(err)
		}
		want[id] = res.Position
		if third("{"+id+"}") == 2 {
			want[id] = progress.UnknownPosition
			lost++
		}
	}
	for n := range 16 {
		if third(fmt.Sprintf("{%d}", n)) == 2 {
			shards++
		}
	}
	cluster.Nodes[2].Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	heads, err := s.Heads(ctx, ids)
	if err != nil || lost == 0 || lost == len(ids) {
		t.Fatalf("%d of %d away: %v", lost, len(ids), err)
	}
	for i, pos := range heads {
		if pos != want[ids[i]] {
			t.Errorf("%s: %v, want %v", ids[i], pos, want[ids[i]])
		}
	}
	listed, failed := 0, 0
	for _, err := range s.Running(ctx) {
		if err != nil {
			failed++
		} else {
			listed++
		}
	}
	if failed != shards || listed == 0 {
		t.Errorf("%d listed, %d of 16 shards failed, want %d", listed, failed, shards)
	}
	cluster.Nodes[0].Stop()
	cluster.Nodes[1].Stop()
	if _, err := s.Heads(ctx, ids); !errors.Is(err, progress.ErrUnavailable) {
		t.Errorf("no master is there: %v", err)
	}
}
