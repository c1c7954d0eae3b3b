package subscriberservice

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/subscriber"
)

func TestServe(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	addr := make(chan string, 1)
	ended := make(chan error, 1)
	c := Config{
		Subscriber: subscriber.Config{Addr: "127.0.0.1:0", Redis: settings.Redis{URL: testenv.Redis(t).URL(), Prefix: testenv.Prefix(t)}},
		APIURL:     "http://127.0.0.1:8081",
	}
	var ready atomic.Bool
	hooks := Hooks{
		Started: func(a string) { addr <- a },
		Ready: func() error {
			if !ready.Load() {
				return errors.New("not ready yet: worker")
			}
			return nil
		},
	}
	go func() { ended <- Serve(ctx, c, slog.New(slog.DiscardHandler), hooks) }()
	base := "http://" + <-addr
	get := func(path string) (int, string) {
		t.Helper()
		res, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}
	if code, text := get("/readyz"); code != 503 || !strings.Contains(text, "worker") {
		t.Errorf("/readyz before all is ready: %d %s", code, text)
	}
	ready.Store(true)
	for path, want := range map[string]string{
		"/readyz": "ready", "/livez": "ok", "/metrics": "runcast_store_appends_total", "/": "<html",
		"/config.json": "http://127.0.0.1:8081", "/v1/workflows": `"workflows"`,
	} {
		if code, text := get(path); code != 200 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}

	// An open stream does not hold up the end.
	res, err := http.Get(base + "/v1/workflows/nobody/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "event: snapshot") {
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("it did not stop in order: %v", err)
	}
}

// Nothing is announced before Redis has been seen, and then it is.
func TestRedisAway(t *testing.T) {
	port, err := testenv.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := "127.0.0.1:" + strconv.Itoa(port)
	health, err := testenv.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	started := make(chan string, 1)
	ended := make(chan error, 1)
	c := Config{
		Subscriber: subscriber.Config{Addr: "127.0.0.1:" + strconv.Itoa(health), Redis: settings.Redis{URL: "redis://" + addr}},
		TrustRedis: true,
	}
	go func() {
		ended <- Serve(ctx, c, slog.New(slog.DiscardHandler), Hooks{Started: func(a string) { started <- a }})
	}()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		res, err := http.Get("http://" + c.Subscriber.Addr + "/readyz")
		if err == nil {
			res.Body.Close()
			if res.StatusCode != 503 {
				t.Errorf("/readyz: %s", res.Status)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	select {
	case <-started:
		t.Error("it says that it is ready")
	default:
	}
	redis := miniredis.NewMiniRedis()
	if err := redis.StartAddr(addr); err != nil {
		t.Fatal(err)
	}
	defer redis.Close()
	select {
	case <-started:
	case <-time.After(20 * time.Second):
		t.Error("Redis is there, and it does not say that it is ready")
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("it did not stop in order: %v", err)
	}
}
