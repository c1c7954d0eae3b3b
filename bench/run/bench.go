package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sys/unix"

	"github.com/runcast/runcast/bench/internal/machine"
	"github.com/runcast/runcast/bench/internal/report"
	"github.com/runcast/runcast/bench/internal/trial"
)

// The servers.
const (
	floor      = "floor"
	naive      = "naive"
	subscriber = "subscriber"
)

// bench is one run.
type bench struct {
	bin      string
	dir      string // of Redis; removed at the end
	stderr   io.Writer
	report   *report.Run
	quick    bool
	scenario string // the one that is measured

	redis     *machine.Process
	redisAddr string
	rdb       *redis.Client
}

// rounds is how many interleaved rounds there are; the median counts.
func (b *bench) rounds() int {
	if b.quick {
		return 1
	}
	return 5
}

// pick returns the value for the form of the run.
func pick[T any](b *bench, full, quick T) T {
	if b.quick {
		return quick
	}
	return full
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.stderr, format+"\n", args...) }

// start starts Redis, on the core of the load.
func (b *bench) start(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return fmt.Errorf("make a directory for Redis: %w", err)
	}
	if b.redis, b.redisAddr, err = machine.Redis(ctx, b.report.Cores.Load, b.dir); err != nil {
		return err
	}
	b.rdb = redis.NewClient(&redis.Options{Addr: b.redisAddr})
	return nil
}

func (b *bench) close() {
	if b.rdb != nil {
		_ = b.rdb.Close()
	}
	if b.redis != nil {
		b.redis.Stop()
	}
	if b.dir != "" {
		_ = os.RemoveAll(b.dir) // Redis was told to write nothing there
	}
}

// serve starts a server that is measured, on a core and on a Redis without keys.
func (b *bench) serve(ctx context.Context, name string) (*machine.Process, string, error) {
	if err := b.rdb.FlushAll(ctx).Err(); err != nil {
		return nil, "", fmt.Errorf("empty Redis: %w", err)
	}
	addr, err := machine.FreeAddr()
	if err != nil {
		return nil, "", err
	}
	args := []string{"-addr", addr, "-redis", b.redisAddr}
	switch name {
	case floor:
		args = append(args, "-channel", "workflow:{"+trial.Workflow(0)+"}:updates")
	case subscriber:
		args = []string{"--addr", addr, "--redis-url", "redis://" + b.redisAddr, "--max-viewers", "20000", "--log-level", "WARN"}
	}
	p, err := machine.Start(b.report.Cores.Server, filepath.Join(b.bin, name), args...)
	if err != nil {
		return nil, "", err
	}
	if err := p.Ready(ctx, machine.Answers("http://"+addr+"/readyz")); err != nil {
		p.Stop()
		return nil, "", err
	}
	return p, addr, nil
}

// try makes one trial of a server that is started for it. A trial that fails
// is kept as a sample with its error; the result is nil then.
func (b *bench) try(ctx context.Context, name string, round int, c trial.Config) (*trial.Result, error) {
	p, addr, err := b.serve(ctx, name)
	if err != nil {
		return nil, err
	}
	defer p.Stop()
	if c.Grace == 0 {
		c.Grace = 10 * time.Second
	}
	if c.Within == 0 {
		c.Within = 2 * time.Minute
	}
	args := []string{
		"-server", addr, "-redis", b.redisAddr, "-pid", strconv.Itoa(p.PID), "-viewers", strconv.Itoa(c.Viewers),
		"-topics", strconv.Itoa(max(c.Topics, 1)), "-settle", c.Settle.String(), "-positions", strconv.Itoa(c.Positions), "-spread", c.Spread.String(),
		"-grace", c.Grace.String(), "-within", c.Within.String(), "-ws=" + strconv.FormatBool(c.WebSocket),
		"-bare=" + strconv.FormatBool(name != subscriber),
	}
	for _, ph := range c.Phases {
		args = append(args, "-phase", fmt.Sprintf("%g/%s", ph.Rate, ph.For))
	}
	sample := report.Sample{Run: b.report.ID, Scenario: b.scenario, Server: name, Round: round, Order: len(b.report.Samples)}
	out, err := machine.Output(ctx, b.report.Cores.Load, filepath.Join(b.bin, "load"), args...)
	var res *trial.Result
	if err == nil {
		res = new(trial.Result)
		err = json.Unmarshal(out, res)
	}
	if err == nil && len(res.Phases) != len(c.Phases) {
		err = errors.New("load left a phase out")
	}
	if err != nil {
		sample.Error = err.Error()
		b.report.Samples = append(b.report.Samples, sample)
		return nil, err
	}
	sample.Result = res
	b.report.Samples = append(b.report.Samples, sample)
	return res, nil
}

// figure makes a value comparable with others of this run only.
func (b *bench) figure(v float64) report.Figure { return report.Figure{Run: b.report.ID, Value: v} }

func (b *bench) row(r report.Row) {
	r.Scenario = b.scenario
	b.report.Rows = append(b.report.Rows, r)
}

// atMost checks a time or a size, which a quick run does not judge.
func (b *bench) atMost(v, limit float64, unit string) *report.Check {
	return &report.Check{Value: v, Limit: limit, Unit: unit, Skipped: b.quick}
}

// atLeast checks a share, which a quick run does not judge.
func (b *bench) atLeast(v, limit float64, unit string) *report.Check {
	return &report.Check{Value: v, Limit: limit, Unit: unit, AtLeast: true, Skipped: b.quick}
}

// none checks a count that must be zero, however short the run.
func none(v int64, unit string) *report.Check {
	return &report.Check{Value: float64(v), Limit: 0, Unit: unit}
}

func transport(ws bool) string {
	if ws {
		return "WebSocket"
	}
	return "SSE"
}

// describe fills in what the figures were found on.
func describe(r *report.Run) {
	r.Go = runtime.Version()
	r.CPU = "unknown CPU"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				r.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		r.Kernel = string(bytes.TrimRight(u.Release[:], "\x00"))
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		first, _, _ := strings.Cut(string(text), " ")
		r.Load1, _ = strconv.ParseFloat(first, 64) // zero where it is not told
	}
}
