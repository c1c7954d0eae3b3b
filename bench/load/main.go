// Command load puts one server under load and tells, as JSON, what viewers
// got and what it cost. The runner (bench/run) starts it; by hand:
//
//	load -server 127.0.0.1:8080 -pid PID -redis 127.0.0.1:6379 -viewers 1000 -phase 20/5s
//
// Connections go to this machine's loopback only.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/runcast/runcast/bench/internal/trial"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(2)
	}
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	var c trial.Config
	f := flag.NewFlagSet("load", flag.ContinueOnError)
	f.StringVar(&c.Server, "server", "127.0.0.1:8080", "`address` of the server")
	f.StringVar(&c.Redis, "redis", "127.0.0.1:6379", "`address` of Redis")
	f.IntVar(&c.PID, "pid", 0, "the server's process, whose cost is measured")
	f.IntVar(&c.RedisPID, "redis-pid", 0, "Redis' process, whose cost is measured")
	f.BoolVar(&c.WebSocket, "ws", false, "WebSocket in place of Server-Sent Events")
	f.BoolVar(&c.Mixed, "mixed", false, "the other one for every other viewer")
	f.StringVar((*string)(&c.Secure), "secure", "", "connect over TLS: `tls` is HTTP/1.1, h2 is HTTP/2")
	f.BoolVar(&c.Latest, "latest", false, "ask for the newest state only")
	f.IntVar(&c.Stuck, "stuck", 0, "how many more connections take nothing")
	f.IntVar(&c.Viewers, "viewers", 100, "how many connections")
	f.IntVar(&c.Topics, "topics", 1, "how many workflows they share")
	f.BoolVar(&c.Bare, "bare", false, "the server sends no snapshot first")
	f.DurationVar(&c.Settle, "settle", 0, "how long viewers idle before the server's memory is read; 0: it is not")
	f.IntVar(&c.Positions, "positions", 0, "resume from as many positions, twice")
	f.Float64Var(&c.During, "during", 0, "events a second while viewers resume")
	f.StringVar(&c.Listen, "listen", "", "follow this `workflow`, to which others write until the standard input ends")
	f.DurationVar(&c.Spread, "spread", 0, "connect all within this time, ready or not; 0: a bounded number at a time")
	f.DurationVar(&c.Grace, "grace", 10*time.Second, "how long the last deliveries of a phase may take")
	f.DurationVar(&c.Within, "within", 2*time.Minute, "how long all may take")
	f.Func("phase", "events a second of each workflow, and how long, as in `20/5s`; may be given again", func(text string) error {
		rate, during, ok := strings.Cut(text, "/")
		p := trial.Phase{}
		var err1, err2 error
		p.Rate, err1 = strconv.ParseFloat(rate, 64)
		p.For, err2 = time.ParseDuration(during)
		if !ok || err1 != nil || err2 != nil {
			return errors.New("want a rate and a duration, as in 20/5s")
		}
		c.Phases = append(c.Phases, p)
		return nil
	})
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if err := openFiles(); err != nil {
		return err
	}
	// The thread of the viewers must not keep the publisher waiting for a
	// scheduler's slice, though both share one core: the kernel parts it.
	runtime.GOMAXPROCS(4)
	res, err := trial.Run(ctx, c, stdin)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(res)
}

// openFiles raises the limit of open files as far as it goes.
func openFiles() error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	const most = 20_000
	l.Cur = min(l.Max, most)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("raise the limit of open files: %w", err)
	}
	return nil
}
