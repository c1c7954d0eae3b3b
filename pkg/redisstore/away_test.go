package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// A server that goes away and comes back with its data: the append that found
// it away is repeated, and the stream goes on as if nothing had been.
func TestServerComesBackWithItsData(t *testing.T) {
	port, err := testenv.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	o := testenv.RedisOptions{Port: port, Args: []string{"--appendonly", "yes", "--appendfsync", "always", "--dir", t.TempDir()}}
	srv := testenv.NewRedis(t, o)
	s, err := redisstore.Open(t.Context(), srv.URL(), redisstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	h := &harness{store: s}
	h.append(t, numbered(1, started("id", "tag")))
	before := h.append(t, numbered(2, logs("id", "r", 2)...))
	srv.Stop()

	next := numbered(4, logs("id", "r", 1)...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := s.Append(ctx, next); !errors.Is(err, progress.ErrUnavailable) || s.Stats().Unavailable != 1 {
		t.Fatalf("%v, %+v", err, s.Stats())
	}
	if _, err := s.Read(ctx, "id", 0, 0); !errors.Is(err, progress.ErrUnavailable) {
		t.Fatal(err)
	}

	testenv.NewRedis(t, o)
	if res := h.again(t, numbered(2, logs("id", "r", 2)...)); !res.Duplicate || res.Position != before.Position {
		t.Errorf("what had been written is not known: %+v", res)
	}
	res := h.again(t, next)
	if res.Position.Seq != 4 || res.Position.Epoch != before.Position.Epoch || res.Lost != 0 || res.Duplicate {
		t.Errorf("before %+v, after %+v", before, res)
	}
	if n := len(h.events(t, "id")); n != 4 {
		t.Errorf("%d events", n)
	}
	if ids := h.runningIDs(t); len(ids) != 1 {
		t.Errorf("running: %q", ids)
	}
}

// clusterOf starts a cluster of the test's own, a store on it, and a client for
// each node.
func clusterOf(t *testing.T) (h *harness, nodes []*redis.Client) {
	t.Helper()
	cluster := testenv.NewCluster(t)
	h = &harness{server: servers[1], client: redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs(), ContextTimeoutEnabled: true, MaxRetries: -1})}
	h.store = redisstore.New(h.client, redisstore.Options{})
	t.Cleanup(func() {
		h.store.Close()
		h.client.Close()
	})
	for _, addr := range cluster.Addrs() {
		c := redis.NewClient(&redis.Options{Addr: addr})
		t.Cleanup(func() { c.Close() })
		nodes = append(nodes, c)
	}
	return h, nodes
}

// third returns which of three masters has a key.
func third(key string) int { return redisstore.Slot(key) * 3 / 16384 }

func runningKey(id string) string { return fmt.Sprintf("running:{%d}", redisstore.Shard(id)) }

// idOn returns an ID whose keys are on one node and whose lists are on another.
func idOn(workflow, lists int) string {
	for i := 0; ; i++ {
		id := fmt.Sprint("id-", i)
		if third("{"+id+"}") == workflow && third(runningKey(id)) == lists {
			return id
		}
	}
}

// A node stops answering and goes on later, having been sent an append
// meanwhile: the others serve on, and nothing is written twice.
func TestNodeStopsAndGoesOn(t *testing.T) {
	h, nodes := clusterOf(t)
	id, other := idOn(1, 0), idOn(0, 2)
	before := h.append(t, numbered(1, started(id), logs(id, "r", 1)[0]))
	h.append(t, numbered(1, started(other)))
	info, err := nodes[1].Info(t.Context(), "server").Result()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(field(info, "process_id"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	goOn := func() { _ = syscall.Kill(pid, syscall.SIGCONT) }
	defer goOn()
	next := numbered(3, logs(id, "r", 1)...)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := h.store.Append(ctx, next); !errors.Is(err, progress.ErrUnavailable) {
		t.Fatal(err)
	}
	h.append(t, numbered(2, logs(other, "r", 1)...))
	goOn()
	res := h.again(t, next)
	if res.Position.Seq != 3 || res.Position.Epoch != before.Position.Epoch || res.Lost != 0 {
		t.Errorf("before %+v, after %+v", before, res)
	}
	if n := len(h.events(t, id)); n != 3 {
		t.Errorf("%d events", n)
	}
}

// A node without memory: an append that it refuses changes nothing there, and
// one whose lists only it has is written, and listed when there is room.
func TestOutOfMemoryOnACluster(t *testing.T) {
	h, nodes := clusterOf(t)
	full, listless := idOn(1, 0), idOn(0, 1)
	h.append(t, numbered(1, started(full), logs(full, "r", 1)[0]))
	before := h.stored(t, full)
	limit := func(bytes string) {
		t.Helper()
		if err := nodes[1].ConfigSet(t.Context(), "maxmemory", bytes).Err(); err != nil {
			t.Fatal(err)
		}
	}
	limit("100kb")
	for _, a := range []redisstore.Append{numbered(3, logs(full, "r", 2)...), numbered(3, started(full))} {
		if _, err := h.store.Append(t.Context(), a); !errors.Is(err, progress.ErrUnavailable) {
			t.Errorf("a node without memory answers %v", err)
		}
	}
	if d := cmp.Diff(before, h.stored(t, full)); d != "" {
		t.Errorf("half a write:\n%s", d)
	}
	h.append(t, numbered(1, started(listless)))
	if st := h.store.Stats(); st.IndexErrors == 0 {
		t.Errorf("a list that could not be written is not counted: %+v", st)
	}
	limit("0")
	if res := h.append(t, numbered(3, logs(full, "r", 1)...)); res.Position.Seq != 3 || res.Lost != 0 {
		t.Errorf("%+v", res)
	}
	h.events(t, full)
	eventually(t, "the run in its list", func() bool {
		return nodes[1].ZScore(t.Context(), runningKey(listless), listless).Err() == nil
	})
}

// field returns a field of INFO.
func field(info, name string) string {
	_, rest, _ := strings.Cut(info, name+":")
	value, _, _ := strings.Cut(rest, "\r\n")
	return value
}
