package workerservice

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/workflows"
)

// serve runs the program until the returned function is called, which reports
// how long it took to stop.
func serve(t *testing.T, c Config) (base string, ready <-chan string, stop func() time.Duration) {
	t.Helper()
	port, err := testenv.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	c.Addr = "127.0.0.1:" + strconv.Itoa(port)
	ctx, cancel := context.WithCancel(t.Context())
	addr, ended := make(chan string, 1), make(chan error, 1)
	env := settings.Env{"TEMPORAL_ADDRESS": testenv.TemporalAddress(t)}
	go func() { ended <- Serve(ctx, c, env, slog.New(slog.DiscardHandler), func(a string) { addr <- a }) }()
	return "http://" + c.Addr, addr, func() time.Duration {
		begin := time.Now()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("it did not stop in order: %v", err)
		}
		return time.Since(begin)
	}
}

// Without Redis the worker works; what it has to say of a run is kept, and is
// all there once Redis is.
func TestRedisComesLater(t *testing.T) {
	port, err := testenv.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	prefix := testenv.Prefix(t)
	url := "redis://127.0.0.1:" + strconv.Itoa(port)
	c := Config{TaskQueue: "worker-" + prefix, ReconcileEvery: time.Minute, Redis: settings.Redis{URL: url, Prefix: prefix}}
	base, ready, stop := serve(t, c)
	defer stop()
	run, err := testenv.Temporal(t).ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: prefix, TaskQueue: c.TaskQueue},
		workflows.ProgressiveName, workflows.ProgressiveInput{Steps: 3, StepMS: 50, Output: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		code, text := get(t, base+"/readyz")
		if code == 503 && strings.Contains(text, "Redis") && strings.Contains(text, "REDIS_URL") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("/readyz: %d %s", code, text)
		}
	}
	testenv.NewRedis(t, testenv.RedisOptions{Port: port})
	<-ready
	store, err := redisstore.Open(t.Context(), url, redisstore.Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var snap progress.Snapshot
	for deadline := time.Now().Add(20 * time.Second); !snap.Closed(); time.Sleep(20 * time.Millisecond) {
		if snap, err = store.Snapshot(t.Context(), prefix); time.Now().After(deadline) {
			t.Fatalf("got %+v, %v", snap, err)
		}
	}
	view, err := store.Read(t.Context(), prefix, 1, 1000)
	if err != nil {
		t.Fatal(err)
	}
	completed, starts := 0, 0
	for i, raw := range view.Events {
		e, err := progress.DecodeEvent(raw.Data)
		if err != nil || e.Seq != int64(i+1) || e.Lost != 0 {
			t.Errorf("event %d is %s, %v", i, raw.Data, err)
		}
		switch {
		case e.Type == progress.TypeStep && e.Status == progress.StatusCompleted:
			completed++
		case e.Type == progress.TypeStarted:
			starts++
		}
	}
	if completed != 3 || starts != 1 || snap.Status != progress.StatusCompleted {
		t.Errorf("%d steps completed, %d starts, status %s", completed, starts, snap.Status)
	}
}

// A Redis that hangs does not keep the worker from stopping in time.
func TestStopsWhileRedisHangs(t *testing.T) {
	server := testenv.NewRedis(t, testenv.RedisOptions{})
	c := Config{TaskQueue: "worker-" + testenv.Prefix(t), ReconcileEvery: time.Minute, Redis: settings.Redis{URL: server.URL()}}
	_, ready, stop := serve(t, c)
	<-ready
	temporal := testenv.Temporal(t)
	store, err := redisstore.Open(t.Context(), server.URL(), redisstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for i := range 5 {
		id := c.TaskQueue + strconv.Itoa(i)
		_, err := temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: c.TaskQueue},
			workflows.ProgressiveName, workflows.ProgressiveInput{Steps: 5, StepMS: 3000})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = temporal.TerminateWorkflow(context.WithoutCancel(t.Context()), id, "", "test") }()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			if snap, err := store.Snapshot(t.Context(), id); err == nil && len(snap.Steps) > 0 {
				break
			} else if time.Now().After(deadline) {
				t.Fatalf("run %d is not there: %v", i, err)
			}
		}
	}
	server.Pause(t)
	// 10 s are promised; some are left for a slow machine.
	if took := stop(); took > 9*time.Second {
		t.Errorf("it stopped after %v", took)
	} else {
		t.Logf("it stopped after %v", took)
	}
}
