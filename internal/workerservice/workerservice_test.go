package workerservice

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/reporter"
	"github.com/runcast/runcast/workflows"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
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

// The program runs a workflow to its end, and the store has its closed chain.
func TestServe(t *testing.T) {
	redisURL, prefix := testenv.Redis(t).URL(), testenv.Prefix(t)
	ctx, stop := context.WithCancel(t.Context())
	addr := make(chan string, 1)
	ended := make(chan error, 1)
	c := Config{
		Addr: "127.0.0.1:0", TaskQueue: "workerservice-" + prefix, ReconcileEvery: 10 * time.Second, EnsureEvery: 100 * time.Millisecond,
		Redis: settings.Redis{URL: redisURL, Prefix: prefix},
	}
	env := settings.Env{"TEMPORAL_ADDRESS": testenv.TemporalAddress(t)}
	go func() { ended <- Serve(ctx, c, env, slog.New(slog.DiscardHandler), func(a string) { addr <- a }) }()
	base := "http://" + <-addr

	temporal := testenv.Temporal(t)
	id := "workerservice-" + prefix
	run, err := temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: c.TaskQueue},
		workflows.ProgressiveName, workflows.ProgressiveInput{Steps: 2, StepMS: 50})
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if code, text := get(t, base+"/readyz"); code != 200 {
		t.Errorf("/readyz: %d %s", code, text)
	}
	if _, text := get(t, base+"/metrics"); !strings.Contains(text, "runcast_reporter_written_total") || !strings.Contains(text, "runcast_store_appends_total") {
		t.Errorf("the metrics lack counts:\n%s", text)
	}
	schedule := temporal.ScheduleClient().GetHandle(t.Context(), reporter.ReconcilerID(c.TaskQueue))
	if err := schedule.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, err := schedule.Describe(t.Context())
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the reconciler's schedule was deleted, and is not made again: %v", err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("it did not stop in order: %v", err)
	}

	store, err := redisstore.Open(t.Context(), redisURL, redisstore.Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	snap, err := store.Snapshot(t.Context(), id)
	if err != nil || snap.Status != progress.StatusCompleted || !snap.Closed() || snap.RunID != run.GetRunID() {
		t.Errorf("got %+v, %v", snap, err)
	}
}

// Without Temporal the program waits, says so, and can be stopped.
func TestTemporalAway(t *testing.T) {
	port, err := testenv.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	health, err := testenv.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := func(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	c := Config{Addr: addr(health), TaskQueue: "x", ReconcileEvery: time.Minute, Redis: settings.Redis{URL: "redis://" + addr(port)}}
	go func() {
		ended <- Serve(ctx, c, settings.Env{"TEMPORAL_ADDRESS": addr(port)}, slog.New(slog.DiscardHandler), func(string) {
			t.Error("it says that it is ready")
		})
	}()
	for deadline := time.Now().Add(10 * time.Second); ; {
		res, err := http.Get("http://" + c.Addr + "/readyz")
		if err == nil {
			res.Body.Close()
			if res.StatusCode != 503 {
				t.Errorf("/readyz: %d", res.StatusCode)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it did not stop")
	}
}
