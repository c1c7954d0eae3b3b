package apiservice

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/delivery"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/reporter"
	"github.com/runcast/runcast/pkg/strategy"
	"github.com/runcast/runcast/pkg/webhook"
	"github.com/runcast/runcast/workflows"
)

// silence takes connections and answers nothing, as a server that hangs.
func silence(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { _, _ = io.Copy(io.Discard, c); _ = c.Close() }) // until the client gives up
		}
	})
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	return l.Addr().String()
}

// Without Redis, for API and worker, all that does not need it follows runs to
// their ends: whether it refuses connections or takes them and hangs.
func TestStrategiesWithoutRedis(t *testing.T) {
	t.Parallel() // it waits most of the time
	port, err := testenv.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, addr string }{
		{"refuses", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))},
		{"hangs", silence(t)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			withoutRedis(t, "redis://"+tt.addr)
		})
	}
}

// withoutRedis follows a run by each strategy that needs no Redis, of a worker
// and an API that have one which is away.
func withoutRedis(t *testing.T, url string) {
	temporal := testenv.Temporal(t)
	s := &served{client: temporal, queue: "queue-" + testenv.Prefix(t)}
	for _, name := range strategy.Names() {
		if name != strategy.Redis {
			s.names = append(s.names, name)
		}
	}
	s.names = append(s.names, "auto")
	store, err := redisstore.Open(t.Context(), url, redisstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	keys, err := webhook.ParseKeys(pushSecret)
	if err != nil {
		t.Fatal(err)
	}
	allow, err := webhook.ParseAllow("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	sender, err := webhook.NewSender(webhook.Options{Keys: keys, Allow: allow})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sender.Close)
	w := worker.New(temporal, s.queue, worker.Options{
		WorkerStopTimeout: time.Second,
		Plugins:           []worker.Plugin{reporter.New(temporal, store, reporter.WithRetryFor(time.Second), reporter.WithFlushFor(100*time.Millisecond))},
	})
	w.RegisterWorkflowWithOptions(held, workflow.RegisterOptions{Name: workflows.ProgressiveName})
	letters := delivery.NewLetters(store.Client(), delivery.LetterOptions{})
	delivery.New(delivery.Options{Sender: sender, Letters: letters}).Register(w)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)

	ctx, stop := context.WithCancel(t.Context())
	addr, ended := make(chan string, 1), make(chan error, 1)
	c := Config{
		Addr: "127.0.0.1:0", TaskQueue: s.queue, MaxBody: 1 << 10, Drain: 10 * time.Millisecond,
		Redis:    settings.Redis{URL: url},
		Push:     settings.Push{Secrets: []string{pushSecret}, Allow: []string{"127.0.0.1"}},
		Strategy: workflows.ProgressiveName + ": {poll: 50, update: 50}",
	}
	env := settings.Env{"TEMPORAL_ADDRESS": testenv.TemporalAddress(t)}
	go func() { ended <- Serve(ctx, c, env, slog.New(slog.DiscardHandler), func(a string) { addr <- a }) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("it did not stop in order: %v", err)
		}
	})
	s.url = "http://" + <-addr
	id := s.start(t)
	s.count(t, id, 7)
	var viewers []*viewer
	for _, name := range s.names {
		v := sse(t, t.Context(), name, s.stream(name, id))
		v.sees(`"current":7`)
		viewers = append(viewers, v)
	}
	s.count(t, id, 8)
	for _, v := range viewers {
		v.sees(`"current":8`)
	}
	s.count(t, id, 0)
	for _, v := range viewers {
		v.ends(`"status":"completed"`)
		for _, f := range v.got {
			// For push the worker asks Redis first whether the receiver is to be
			// left alone, and gives it up; that may take too long.
			if f.kind == "gap" && v.name != strategy.Push {
				t.Errorf("%s: told %s", v.name, f.data)
			}
		}
	}
}
