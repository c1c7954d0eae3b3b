package redisstore_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// stored is all that Redis holds of a workflow.
type stored struct {
	Hash, Producers map[string]string
	Stream          []redis.XMessage
}

func (h *harness) stored(t testing.TB, id string) stored {
	t.Helper()
	var s stored
	var err1, err2, err3 error
	s.Hash, err1 = h.client.HGetAll(t.Context(), h.key(id, "")).Result()
	s.Stream, err2 = h.client.XRange(t.Context(), h.key(id, ":events"), "-", "+").Result()
	s.Producers, err3 = h.client.HGetAll(t.Context(), h.key(id, ":producers")).Result()
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return s
}

// each calls f with every server of the harness.
func (h *harness) each(t testing.TB, f func(ctx context.Context, c *redis.Client) error) {
	t.Helper()
	var err error
	if cc, ok := h.client.(*redis.ClusterClient); ok {
		err = cc.ForEachMaster(context.WithoutCancel(t.Context()), f)
	} else {
		err = f(t.Context(), h.client.(*redis.Client))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Entries that were added and taken away by hand leave the stream counting
// from them. What it still holds is right, and stays.
func TestStreamCountsFromEntriesTakenAway(t *testing.T) {
	contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		before := h.append(t, numbered(1, logs("id", "r", 3)...))
		stream := h.key("id", ":events")
		h.client.XAdd(t.Context(), &redis.XAddArgs{Stream: stream, ID: "9-0", Values: []any{"e", "x"}})
		if err := h.client.XDel(t.Context(), stream, "9-0").Err(); err != nil {
			t.Fatal(err)
		}
		after := h.append(t, numbered(4, logs("id", "r", 3)...))
		if after.Position.Epoch != before.Position.Epoch || after.Position.Seq != 6 || after.Lost != 0 {
			t.Fatalf("before %+v, after %+v", before, after)
		}
		if n := len(h.events(t, "id")); n != 6 {
			t.Fatalf("%d events", n)
		}
		if ttl := h.client.PTTL(t.Context(), stream).Val(); ttl <= 0 {
			t.Errorf("the stream expires in %v", ttl)
		}
		h.append(t, numbered(7, logs("id", "r", 1)...))
		h.events(t, "id")
	})
}

// A user who may not do all that the script does writes nothing.
func TestHalfWrite(t *testing.T) {
	withUsers(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		h.append(t, numbered(1, logs("id", "r", 3)...))
		for _, command := range []string{"xadd", "hset", "hdel", "del", "pexpire"} {
			t.Run("without "+command, func(t *testing.T) {
				user := h.user(t, "~*", "&*", "+@all", "-"+command)
				before := h.stored(t, "id")
				for _, a := range []redisstore.Append{
					numbered(4, logs("id", "r", 2)...),
					{WorkflowID: "id", Fence: fence("r", 1), Producer: redisstore.Producer{Name: "new"}, Number: 1, Events: logs("id", "r", 1)},
					numbered(1, logs("new", "r", 1)...),
				} {
					again := a.Number == 4 // who has written before is not asked again
					if again && command != "xadd" {
						continue
					}
					_, err := user.Append(t.Context(), a)
					if err == nil || errors.Is(err, progress.ErrUnavailable) || !again && !strings.Contains(strings.ToLower(err.Error()), command) {
						t.Errorf("append to %s by %s: %v", a.WorkflowID, a.Producer.Name, err)
					}
				}
				if d := cmp.Diff(before, h.stored(t, "id")); d != "" {
					t.Errorf("half a write:\n%s", d)
				}
				if d := cmp.Diff(stored{Hash: map[string]string{}, Producers: map[string]string{}, Stream: []redis.XMessage{}}, h.stored(t, "new")); d != "" {
					t.Errorf("half a write:\n%s", d)
				}
			})
		}
		if res := h.append(t, numbered(4, logs("id", "r", 1)...)); res.Position.Seq != 4 {
			t.Errorf("%+v", res)
		}
	})
}

// What docs/wire-contract.md gives a writer is enough.
func TestWriterUser(t *testing.T) {
	withUsers(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		rules := documented(t, "../../docs/wire-contract.md", "A writer needs `")
		s := h.user(t, append([]string{"~" + h.prefix + ":*", "&" + h.prefix + ":*"}, rules...)...)
		if err := errors.Join(s.Ping(t.Context()), s.CheckServer(t.Context())); err != nil {
			t.Error(err)
		}
		p := redisstore.Producer{Name: "p"}
		for n, e := range []progress.Event{started("id", "tag"), logs("id", "r", 1)[0], event("id", "r", "closed", nil)} {
			if _, err := s.Append(t.Context(), numbered(int64(n+1), e)); err != nil {
				t.Fatal(err)
			}
		}
		a := numbered(4, event("id", "r2", "started", nil))
		a.Fence.RunTime = t0.Add(time.Hour)
		if _, err := s.Append(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.Leave(t.Context(), "id", p), s.Repair(t.Context(), "id"), s.Close()); err != nil {
			t.Error(err)
		}
		if st := s.Stats(); st.PublishFailed != 0 || st.IndexErrors != 0 {
			t.Errorf("%+v", st)
		}
		h.events(t, "id")
	})
}

// addUser makes a user (password "pw") with the rules, and returns its name
// and the address of a server. The user ends with the test.
func (h *harness) addUser(t testing.TB, rules ...string) (name, addr string) {
	t.Helper()
	name = strings.NewReplacer("/", ".", " ", ".").Replace(t.Name())
	set := []any{"ACL", "SETUSER", name, "on", ">pw", "resetkeys", "resetchannels", "-@all"}
	for _, rule := range rules {
		set = append(set, rule)
	}
	h.each(t, func(ctx context.Context, c *redis.Client) error { return c.Do(ctx, set...).Err() })
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context()) // which has ended by now
		h.each(t, func(_ context.Context, c *redis.Client) error { return c.Do(ctx, "ACL", "DELUSER", name).Err() })
	})
	if h.sharded {
		return name, testenv.Cluster(t).Addrs()[0]
	}
	return name, testenv.Redis(t).Addr
}

// user returns a store whose user has the given rules.
func (h *harness) user(t testing.TB, rules ...string) *redisstore.Store {
	t.Helper()
	name, addr := h.addUser(t, rules...)
	s, err := redisstore.Open(t.Context(), "redis://"+url.UserPassword(name, "pw").String()+"@"+addr, h.opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// documented returns the words of the code that follows the text in a
// document.
func documented(t testing.TB, file, before string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), before)
	rules, _, _ := strings.Cut(rest, "`")
	if !ok || rules == "" {
		t.Fatalf("%s does not say %q", file, before)
	}
	return strings.Fields(rules)
}
