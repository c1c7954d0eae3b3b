package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

func TestOpen(t *testing.T) {
	single, cluster := testenv.Redis(t), testenv.Cluster(t)
	for name, url := range map[string]string{
		"single":                        single.URL(),
		"single with database":          single.URL() + "/1?read_timeout=5s",
		"cluster":                       cluster.URL(),
		"cluster by a list":             "redis://" + strings.Join(cluster.Addrs(), ","),
		"cluster by its scheme":         "redis+cluster://" + cluster.Addrs()[1],
		"cluster by what the node says": "redis://" + cluster.Addrs()[2],
	} {
		t.Run(name, func(t *testing.T) {
			s, err := redisstore.Open(t.Context(), url, redisstore.Options{Prefix: testenv.Prefix(t)})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for i := range 20 {
				if _, err := s.Append(t.Context(), numbered(1, logs(fmt.Sprint("id-", i), "r", 1)...)); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, url := range []string{
		"", "localhost:6379", "http://localhost", "redis+magic://localhost", "redis://:secret@host:port", "redis://h/notanumber",
		"redis+sentinel://localhost:26379", "redis://localhost?no_such_option=1",
		"redis+cluster://localhost?read_only=true", "redis://localhost?addr=other:1&route_by_latency=1",
		"redis+cluster://localhost?route_randomly=true", "redis+sentinel://localhost/m?replica_only=true",
	} {
		_, err := redisstore.Open(t.Context(), url, redisstore.Options{})
		if !errors.Is(err, progress.ErrInvalid) {
			t.Errorf("%q: %v", url, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
}

func TestOpenSentinel(t *testing.T) {
	srv := testenv.Redis(t)
	port, err := testenv.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	_, redisPort, _ := strings.Cut(srv.Addr, ":")
	testenv.NewRedis(t, testenv.RedisOptions{Port: port, Sentinel: "mymaster 127.0.0.1 " + redisPort + " 1"})
	s, err := redisstore.Open(t.Context(), fmt.Sprintf("redis+sentinel://127.0.0.1:%d/mymaster", port), redisstore.Options{Prefix: testenv.Prefix(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Append(t.Context(), numbered(1, logs("id", "r", 1)...)); err != nil {
		t.Fatal(err)
	}
	got := make(sink, 10)
	sub := s.Subscribe(got)
	defer sub.Close()
	if err := sub.Add(t.Context(), workflow("id")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), numbered(2, logs("id", "r", 1)...)); err != nil {
		t.Fatal(err)
	}
	if m := got.next(t); m.data == "" {
		t.Fatalf("%+v", m)
	}
}

// Redis may be away when a program starts.
func TestOpenWhileRedisIsAway(t *testing.T) {
	port, err := testenv.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	s, err := redisstore.Open(t.Context(), fmt.Sprint("redis://127.0.0.1:", port), redisstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := s.Ping(ctx); !errors.Is(err, progress.ErrUnavailable) {
		t.Fatal(err)
	}
	testenv.NewRedis(t, testenv.RedisOptions{Port: port})
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A user who may do what docs/http.md says, and no more, can serve viewers.
func TestReadOnlyUser(t *testing.T) {
	withUsers(t, redisstore.Options{}, func(t *testing.T, h *harness) {
		h.append(t, numbered(1, started("id", "tag")))
		const doc = "../../docs/http.md"
		rules := append([]string{"%R~" + h.prefix + ":*", "&" + h.prefix + ":*"}, documented(t, doc, "all that the subscriber does: `")...)
		if h.sharded {
			rules = append(rules, documented(t, doc, "on a cluster `")...)
		}
		t.Run("all of it", func(t *testing.T) { readOnly(t, h.user(t, rules...)) })
		t.Run("without INFO", func(t *testing.T) { readOnly(t, h.user(t, append(rules, "-info")...)) })
	})
}

func readOnly(t *testing.T, s *redisstore.Store) {
	if err := errors.Join(s.Ping(t.Context()), s.CheckServer(t.Context())); err != nil {
		t.Error(err)
	}
	got := make(sink, 10)
	sub := s.Subscribe(got)
	defer sub.Close()
	if err := errors.Join(sub.Add(t.Context(), workflow("id")), sub.Add(t.Context(), progress.Topic{Kind: progress.TopicTag, Name: "tag"})); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Read(t.Context(), "id", 0, 0); err != nil || len(v.Events) != 1 {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := s.Heads(t.Context(), []string{"id"}); err != nil {
		t.Error(err)
	}
	if l, _, err := s.List(t.Context(), redisstore.ListQuery{}); err != nil || len(l) != 1 {
		t.Errorf("%+v, %v", l, err)
	}
	if _, err := s.TagSummaries(t.Context(), "tag", 0); err != nil {
		t.Error(err)
	}
	if _, err := s.Append(t.Context(), numbered(2, logs("id", "r", 1)...)); err == nil || errors.Is(err, progress.ErrUnavailable) {
		t.Errorf("a user who may only read wrote, or should try again: %v", err)
	}
}

// A cluster that is away when a program starts cannot be told from a single
// server. The check says so once it is back, and no append tries for ever.
func TestClusterTakenForASingleServer(t *testing.T) {
	port, err := testenv.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	s, err := redisstore.Open(t.Context(), fmt.Sprint("redis://127.0.0.1:", port), redisstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	testenv.NewRedis(t, testenv.RedisOptions{Port: port, Args: []string{"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"}})
	final := func(what string, err error) {
		t.Helper()
		if err == nil || errors.Is(err, progress.ErrUnavailable) || !strings.Contains(err.Error(), "redis+cluster://") {
			t.Errorf("%s: %v", what, err)
		}
	}
	final("check", s.CheckServer(t.Context()))

	node := redis.NewClient(&redis.Options{Addr: testenv.Cluster(t).Addrs()[0]})
	defer node.Close()
	single := redisstore.New(node, redisstore.Options{Prefix: testenv.Prefix(t)})
	defer single.Close()
	for i := 0; ; i++ {
		id := fmt.Sprint("id-", i)
		if _, err := single.Append(t.Context(), numbered(1, logs(id, "r", 1)...)); err != nil {
			final("append", err)
			_, err = single.Snapshot(t.Context(), id)
			final("snapshot", err)
			break
		}
	}
}

// serverError is an answer of the server, as the client returns it.
type serverError string

func (e serverError) Error() string { return string(e) }
func (serverError) RedisError()     {}

func TestLastingErrors(t *testing.T) {
	for text, want := range map[string]bool{
		"WRONGTYPE Operation against a key holding the wrong kind of value":                        true,
		"NOPERM this user has no permissions to run the 'xadd' command":                            true,
		"ERR unknown command 'SPUBLISH'":                                                           true,
		"OOM command not allowed when used memory > 'maxmemory'.":                                  false,
		"ERR Error running script (call to f_1): @user_script:3: OOM command not allowed":          false,
		"ERR Error running script (call to f_1): @user_script:3: -READONLY You can't write":        false,
		"ERR Error running script (call to f_1): @user_script:3: -NOREPLICAS Not enough good ones": false,
		"READONLY You can't write against a read only replica.":                                    false,
		"LOADING Redis is loading the dataset in memory":                                           false,
		"ERR max number of clients reached":                                                        false,
	} {
		if got := redisstore.Lasting(serverError(text)); got != want {
			t.Errorf("%s: lasting is %t", text, got)
		}
	}
}
