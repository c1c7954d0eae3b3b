// Command writers writes events as fast as it can, either through the store
// or as the three bare commands that each event needs at least, and tells as
// JSON how many it wrote. The runner (bench/run) starts it.
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
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/bench/internal/proc"
	"github.com/runcast/runcast/bench/internal/viewers"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "writers:", err)
		os.Exit(2)
	}
}

// The bounds.
const (
	maxWriters = 256
	maxTime    = time.Minute
)

func run(ctx context.Context, args []string, stdout io.Writer) error {
	f := flag.NewFlagSet("writers", flag.ContinueOnError)
	addr := f.String("redis", "127.0.0.1:6379", "`address` of Redis, of this machine's loopback")
	pid := f.Int("redis-pid", 0, "Redis' process, whose time on the CPU is measured")
	bare := f.Bool("bare", false, "HSET, XADD and PUBLISH in a pipeline, in place of the store")
	size := f.Int("size", 1, "events in one call")
	writers := f.Int("writers", 32, "how many write at a time, each to a workflow of its own")
	during := f.Duration("for", time.Second, "how long")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if _, err := viewers.Loopback(*addr); err != nil {
		return err
	}
	if *size < 1 || *size > redisstore.MaxEvents || *writers < 1 || *writers > maxWriters || *during <= 0 || *during > maxTime {
		return fmt.Errorf("out of bounds: up to %d events in a call, %d writers and %s", redisstore.MaxEvents, maxWriters, maxTime)
	}
	client := redis.NewClient(&redis.Options{Addr: *addr, PoolSize: *writers})
	defer client.Close()
	store := redisstore.New(client, redisstore.Options{})
	defer store.Close()

	// All connect first, and the script is there.
	if _, err := write(ctx, *writers, time.Now(), func(i int) func(context.Context) error {
		return writer(client, store, *bare, i, *size)
	}); err != nil {
		return err
	}
	before, err := spent(*pid)
	if err != nil {
		return err
	}
	begin := time.Now()
	calls, err := write(ctx, *writers, begin.Add(*during), func(i int) func(context.Context) error {
		return writer(client, store, *bare, *writers+i, *size)
	})
	if err != nil {
		return err
	}
	events, seconds := calls*int64(*size), time.Since(begin).Seconds()
	now, err := spent(*pid)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(map[string]float64{
		"events": float64(events), "seconds": seconds, "per_second": float64(events) / seconds,
		"client_cpu_share": (now[0] - before[0]).Seconds() / seconds, "redis_cpu_share": (now[1] - before[1]).Seconds() / seconds,
	})
}

// spent returns the time on the CPU of this process and of Redis.
func spent(redis int) (times [2]time.Duration, err error) {
	for i, pid := range []int{os.Getpid(), redis} {
		if pid == 0 {
			continue
		}
		cpu, err := proc.ReadCPU(pid)
		if err != nil {
			return times, err
		}
		times[i] = cpu.Total
	}
	return times, nil
}

// write has n goroutines call until the time is over, each at least once,
// and returns how many calls they made.
func write(ctx context.Context, n int, until time.Time, make1 func(int) func(context.Context) error) (int64, error) {
	counts, errs := make([]int64, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		call := make1(i)
		wg.Go(func() {
			for {
				if errs[i] = call(ctx); errs[i] != nil {
					return
				}
				counts[i]++
				if !time.Now().Before(until) {
					return
				}
			}
		})
	}
	wg.Wait()
	var calls int64
	for _, c := range counts {
		calls += c
	}
	return calls, errors.Join(errs...)
}

// writer returns one writer's call.
func writer(c *redis.Client, s *redisstore.Store, bare bool, i, size int) func(context.Context) error {
	id := fmt.Sprintf("writers-%t-%d", bare, i)
	percent := 12.5
	began := time.Now()
	const run = "6c1f0a52-3f57-4b0e-9d3e-5b2f8c7a1e90"
	events := make([]progress.Event, size)
	for k := range events {
		events[k] = progress.Event{
			WorkflowID: id, RunID: run, Chain: run, Type: progress.TypeProgress, Time: began,
			Percent: &percent, Message: "packing the boxes",
		}
	}
	if bare {
		return bareWriter(c, id, &events[0], size)
	}
	number := int64(1)
	return func(ctx context.Context) error {
		_, err := s.Append(ctx, redisstore.Append{
			WorkflowID: id, Fence: redisstore.Fence{RunID: run, Chain: run, RunTime: began},
			Producer: redisstore.Producer{Name: "writers", Started: began, Attempt: 1}, Number: number, Events: events,
		})
		number += int64(size)
		return err
	}
}

// bareWriter writes what the event needs at least, encoded beforehand.
func bareWriter(c *redis.Client, id string, e *progress.Event, size int) func(context.Context) error {
	body, err := e.AppendBody(nil)
	hash := "bare:{" + id + "}"
	return func(ctx context.Context) error {
		if err != nil {
			return err
		}
		p := c.Pipeline()
		for range size {
			p.HSet(ctx, hash, "percent", "12.5", "message", e.Message, "seq", "1", "check", "12345678", "updated_at", "2026-11-23T01:02:03.456789Z")
			p.XAdd(ctx, &redis.XAddArgs{Stream: hash + ":events", MaxLen: redisstore.DefaultMaxLen, Approx: true, Values: []any{"e", body}})
			p.Publish(ctx, hash+":updates", body)
		}
		_, err := p.Exec(ctx)
		return err
	}
}
