package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/bench/internal/machine"
	"github.com/runcast/runcast/bench/internal/report"
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
	dir      string // of Redis and the certificate; removed at the end
	stderr   io.Writer
	report   *report.Run
	quick    bool
	scenario string // the one that is measured

	redis     *machine.Process
	redisAddr string
	rdb       *redis.Client

	cert, key string // files, for servers that speak TLS
}

// rounds is how many interleaved rounds there are where servers are compared;
// the median counts.
func (b *bench) rounds() int { return pick(b, 5, 1) }

// trials is how many there are where a limit is absolute; the median counts.
func (b *bench) trials() int { return pick(b, 3, 1) }

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
	b.cert, b.key, err = machine.Certificate(b.dir)
	return err
}

func (b *bench) close() {
	if b.rdb != nil {
		_ = b.rdb.Close()
	}
	if b.redis != nil {
		b.redis.Stop()
	}
	if b.dir != "" {
		_ = os.RemoveAll(b.dir) // nothing of it is of use to anybody
	}
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

// median checks a median of trials against a limit that is absolute, and says
// how far they lie apart.
func (b *bench) median(row report.Row, values []float64, limit float64) report.Row {
	v := report.Median(values)
	row.Subscriber, row.Check = report.Value(v), b.atMost(v, limit, row.Unit)
	row.Note = notes(row.Note, report.Spread(values))
	return row
}

// notes joins what is to be known.
func notes(parts ...string) string {
	parts = slices.DeleteFunc(parts, func(s string) bool { return s == "" })
	return strings.Join(parts, "; ")
}

func transport(ws bool) string {
	if ws {
		return "WebSocket"
	}
	return "SSE"
}
