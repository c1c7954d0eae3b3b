// Command runs is the worker whose runs are followed when strategies are
// compared. It tells at /calls what its client has called Temporal for. The
// runner (bench/compare) starts it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"

	"github.com/runcast/runcast/bench/internal/frontend"
	"github.com/runcast/runcast/bench/internal/viewers"
	"github.com/runcast/runcast/bench/internal/workload"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/reporter"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "runs:", err)
		os.Exit(2)
	}
}

// pollers take tasks at a time. The SDK's default of two is soon what limits
// queries.
const pollers = 16

func run(ctx context.Context, args []string, stderr io.Writer) (err error) {
	f := flag.NewFlagSet("runs", flag.ContinueOnError)
	f.SetOutput(stderr)
	listen := f.String("listen", "127.0.0.1:0", "`address` for /calls and /readyz, of this machine's loopback")
	server := f.String("temporal", "127.0.0.1:7233", "`address` of the Temporal server, of this machine's loopback")
	queue := f.String("queue", "compare", "task queue")
	redis := f.String("redis", "", "`address` of Redis, of this machine's loopback, to which all is written; empty: runs can be followed through Temporal alone")
	letters := f.String("letters", "", "`address` of Redis for what subscribers did not take; empty: it is dropped")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	for _, addr := range []string{*server, *listen, *redis, *letters} {
		if addr == "" {
			continue
		}
		if _, err := viewers.Loopback(addr); err != nil {
			return err
		}
	}
	var store reporter.Store
	if *redis != "" {
		s, err := redisstore.Open(ctx, "redis://"+*redis, redisstore.Options{})
		if err != nil {
			return err
		}
		defer s.Close()
		store = s
	}
	logger := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	var calls frontend.Counter
	c, err := client.DialContext(ctx, client.Options{
		HostPort: *server, Logger: log.NewStructuredLogger(logger),
		ConnectionOptions: client.ConnectionOptions{DialOptions: []grpc.DialOption{calls.DialOption()}},
	})
	if err != nil {
		return err
	}
	defer c.Close()
	rep := reporter.New(c, store, reporter.WithLogger(logger))
	w := worker.New(c, *queue, worker.Options{
		Plugins: []worker.Plugin{rep}, MaxConcurrentWorkflowTaskPollers: pollers, MaxConcurrentActivityTaskPollers: pollers,
	})
	stop, err := deliver(w, *letters, logger)
	if err != nil {
		return err
	}
	defer stop()
	w.RegisterWorkflowWithOptions(workload.Workflow, workflow.RegisterOptions{Name: workload.Name})
	if err := w.Start(); err != nil {
		return err
	}
	defer w.Stop()
	return serve(ctx, *listen, &calls)
}

// serve tells the calls until ctx ends.
func serve(ctx context.Context, addr string, calls *frontend.Counter) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /calls", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(calls.Read()) // whoever asked has gone
	})
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		stopped <- s.Close()
	}()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}
