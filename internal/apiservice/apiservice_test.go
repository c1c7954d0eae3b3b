package apiservice

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// A start is seen in the store before any worker takes it, with its tags.
func TestStartedRunIsQueued(t *testing.T) {
	redisURL := testenv.Redis(t).URL()
	prefix := testenv.Prefix(t)
	temporal := testenv.TemporalAddress(t)
	ctx, stop := context.WithCancel(t.Context())
	addr := make(chan string, 1)
	ended := make(chan error, 1)
	c := Config{
		Addr: "127.0.0.1:0", TaskQueue: "apiservice-" + t.Name(), MaxBody: 1 << 10,
		Redis: settings.Redis{URL: redisURL, Prefix: prefix},
	}
	env := settings.Env{"TEMPORAL_ADDRESS": temporal}
	go func() { ended <- Serve(ctx, c, env, slog.New(slog.DiscardHandler), func(a string) { addr <- a }) }()
	base := "http://" + <-addr
	id := "queued-" + time.Now().Format("150405.000000")
	res, err := http.Post(base+"/v1/workflows", "application/json",
		strings.NewReader(`{"type":"ProgressiveWorkflow","id":"`+id+`","input":{"steps":3},"tags":["a","b"]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var answer struct {
		RunID string `json:"run_id"`
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || res.StatusCode != 202 {
		t.Fatalf("got %d, %v", res.StatusCode, err)
	}
	stop() // which waits for the note
	if err := <-ended; err != nil {
		t.Errorf("it did not stop in order: %v", err)
	}
	store, err := redisstore.Open(t.Context(), redisURL, redisstore.Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	snap, err := store.Snapshot(t.Context(), id)
	if err != nil || snap.Status != progress.StatusQueued || snap.RunID != answer.RunID || !slices.Equal(snap.Tags, []string{"a", "b"}) {
		t.Errorf("got %+v, %v", snap, err)
	}
	client := testenv.Temporal(t)
	if err := client.TerminateWorkflow(t.Context(), id, "", "test"); err != nil {
		t.Error(err)
	}
}

// Without Redis runs are started all the same, and soon: only the note that
// they are queued is missing.
func TestRedisAway(t *testing.T) {
	port, err := testenv.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	addr, ended := make(chan string, 1), make(chan error, 1)
	c := Config{
		Addr: "127.0.0.1:0", TaskQueue: "apiservice-" + t.Name(), MaxBody: 1 << 10,
		Redis: settings.Redis{URL: "redis://127.0.0.1:" + strconv.Itoa(port)},
	}
	env := settings.Env{"TEMPORAL_ADDRESS": testenv.TemporalAddress(t)}
	go func() { ended <- Serve(ctx, c, env, slog.New(slog.DiscardHandler), func(a string) { addr <- a }) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("it did not stop in order: %v", err)
		}
	}()
	base := "http://" + <-addr
	res, err := http.Get(base + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 {
		t.Errorf("/readyz: %d", res.StatusCode)
	}
	id := "away-" + time.Now().Format("150405.000000")
	begin := time.Now()
	res, err = http.Post(base+"/v1/workflows", "application/json", strings.NewReader(`{"type":"ProgressiveWorkflow","id":"`+id+`","input":{"steps":3}}`))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if took := time.Since(begin); res.StatusCode != 202 || took > 5*time.Second {
		t.Errorf("got %d after %v", res.StatusCode, took)
	}
	if err := testenv.Temporal(t).TerminateWorkflow(t.Context(), id, "", "test"); err != nil {
		t.Error(err)
	}
}
