package subscriber_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/subscriber"
)

func mustUnmarshal(t testing.TB, data []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
}

func adminClient(t testing.TB, s *testenv.RedisServer) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.Addr})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// kill cuts all connections of a kind: normal or pubsub.
func kill(t testing.TB, n *node, kind string) {
	t.Helper()
	if err := adminClient(t, n.redis).Do(t.Context(), "CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes").Err(); err != nil {
		t.Fatal(err)
	}
}

func portOf(t testing.TB, addr string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// acl makes a user without a password, with the rules alone.
func acl(t testing.TB, s *testenv.RedisServer, user string, rules ...string) {
	t.Helper()
	args := []any{"ACL", "SETUSER", user, "reset", "on", ">" + "pass"}
	for _, r := range rules {
		args = append(args, r)
	}
	if err := adminClient(t, s).Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
}

// asUser opens the node's keys as another user.
func asUser(t testing.TB, n *node, user string) *redisstore.Store {
	t.Helper()
	return openAs(t, n.redis, user, n.prefix)
}

func openAs(t testing.TB, s *testenv.RedisServer, user, prefix string) *redisstore.Store {
	t.Helper()
	store, err := redisstore.Open(t.Context(), "redis://"+user+":pass@"+s.Addr, redisstore.Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// The subscriber works with a user who may only read and subscribe.
func TestReadOnlyUser(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{})
	prefix := testenv.Prefix(t)
	acl(t, server, "viewer", "~*", "&*", "-@all", "+@read", "+subscribe", "+unsubscribe", "+ping", "+multi", "+exec", "-@write")
	writer, err := redisstore.Open(t.Context(), server.URL(), redisstore.Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = writer.Close() })
	n := startWith(t, server, openAs(t, server, "viewer", prefix), func(o *subscriber.Options) { o.Config.CompareEvery = 1e7 })
	c := n.sse(t, "/v1/workflows/w/stream")
	expect(t, c, "snapshot")
	tags := n.sse(t, "/v1/stream?tag=blue")
	expect(t, tags, "snapshot")
	r := newRun(t, writer, "w", "run")
	pos := r.addWith(progress.TypeStarted, func(e *progress.Event) { e.Tags = []string{"blue"} })
	if f := expect(t, c, "update"); f.ID != pos.String() {
		t.Errorf("update %s", f.ID)
	}
	if f := expect(t, tags, "update"); !strings.Contains(string(f.Data), `"workflow_id":"w"`) {
		t.Errorf("summary %s", f.Data)
	}
	for _, path := range []string{"/readyz", "/v1/workflows", "/v1/workflows/w", "/v1/workflows/w/events", "/v1/workflows?tag=blue"} {
		if res, _ := get(t, n.url+path); res.StatusCode != 200 {
			t.Errorf("GET %s: %s", path, res.Status)
		}
	}
	before := n.Hub().Metrics().Compares.Load()
	eventually(t, "the heads were compared", func() bool { return n.Hub().Metrics().Compares.Load() > before+1 })
	if n.Hub().Metrics().ReadFailures.Load() > 0 {
		t.Error("readings failed")
	}
}

// A node whose user may not read or subscribe would open streams that stay
// empty: it is not ready, and says what is missing.
func TestReadyNeedsTheRightsOfAStream(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{})
	all := []string{"~*", "&*", "+@read", "+subscribe", "+unsubscribe", "+ping", "+multi", "+exec"}
	for _, tt := range []struct {
		name  string
		rules []string
	}{
		{"no subscribe", []string{"~*", "&*", "+@read", "+unsubscribe", "+ping", "+multi", "+exec"}},
		{"no channels", []string{"~*", "resetchannels", "+@read", "+subscribe", "+unsubscribe", "+ping", "+multi", "+exec"}},
		{"no keys", []string{"&*", "+@read", "+subscribe", "+unsubscribe", "+ping", "+multi", "+exec"}},
		{"no reading", []string{"~*", "&*", "+subscribe", "+unsubscribe", "+ping", "+multi", "+exec"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			acl(t, server, "viewer", tt.rules...)
			n := startWith(t, server, openAs(t, server, "viewer", testenv.Prefix(t)))
			ready := func() (int, string) {
				res, cancel := get(t, n.url+"/readyz")
				defer cancel()
				body, _ := io.ReadAll(res.Body)
				return res.StatusCode, string(body)
			}
			if code, text := ready(); code != http.StatusServiceUnavailable || !strings.Contains(text, "+subscribe") {
				t.Errorf("/readyz: %d %s", code, text)
			}
			acl(t, server, "viewer", all...)
			eventually(t, "ready", func() bool { code, _ := ready(); return code == http.StatusOK })
		})
	}
}
