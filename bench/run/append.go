package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/bench/internal/machine"
	"github.com/runcast/runcast/bench/internal/report"
)

// The budget of appends, by a client that pipelines the bare commands of ten
// events at a time.
const (
	minAppendTens   = .70
	minAppendSingly = .25
)

// appendForm is one way to write, and what it found.
type appendForm struct {
	name   string
	bare   bool
	size   int
	found  []report.Figure
	script []float64 // µs that a call of the script takes
	redis  []float64 // share of Redis' core
	client []float64 // and of the client's
}

// busy says who had nothing left.
func (f *appendForm) busy() string {
	return fmt.Sprintf("%s: Redis %.0f %%, client %.0f %% of a core", f.name, 100*report.Median(f.redis), 100*report.Median(f.client))
}

// appends measures how many events a second the store writes.
func appends(ctx context.Context, b *bench) error {
	// Here Redis is the server, so it gets that core.
	server, addr, err := machine.Redis(ctx, b.report.Cores.Server, b.dir)
	if err != nil {
		return err
	}
	defer server.Stop()
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	defer rdb.Close()
	bare, tens := &appendForm{name: "bare, ten", bare: true, size: 10}, &appendForm{name: "store, ten", size: 10}
	bareSingly, singly := &appendForm{name: "bare, singly", bare: true, size: 1}, &appendForm{name: "store, singly", size: 1}
	for round := range b.rounds() {
		for _, form := range []*appendForm{bare, tens, bareSingly, singly} {
			if err := b.write(ctx, rdb, addr, server.PID, round, form); err != nil {
				return err
			}
		}
	}
	for _, r := range []struct {
		what         string
		store, alike *appendForm
		limit        float64
	}{{"appends in calls of ten", tens, bare, minAppendTens}, {"appends singly", singly, bareSingly, minAppendSingly}} {
		ratios, err := report.Ratios(r.store.found, bare.found)
		if err != nil {
			return err
		}
		alike, err := report.Ratios(r.store.found, r.alike.found)
		if err != nil {
			return err
		}
		row := report.Row{
			What: r.what, Unit: "events/s", Floor: report.Value(report.MedianOf(bare.found)),
			Subscriber: report.Value(report.MedianOf(r.store.found)),
			Check:      b.atLeast(report.Median(ratios), r.limit, "x bare commands"),
		}
		row.Note = notes(report.Spread(ratios), fmt.Sprintf("the script takes %.0f µs a call", report.Median(r.store.script)), r.store.busy(), r.alike.busy())
		if r.alike != bare {
			row.Note += fmt.Sprintf("; %.2f x bare commands in pipelines of one event, which make %.0f/s", report.Median(alike), report.MedianOf(r.alike.found))
		}
		b.row(row)
	}
	return nil
}

// write measures one form once.
func (b *bench) write(ctx context.Context, rdb *redis.Client, addr string, pid, round int, form *appendForm) error {
	if err := rdb.ConfigResetStat(ctx).Err(); err != nil {
		return fmt.Errorf("reset commandstats: %w", err)
	}
	out, err := machine.Output(ctx, b.report.Cores.Load, filepath.Join(b.bin, "writers"), "-redis", addr, "-redis-pid", strconv.Itoa(pid),
		"-bare="+strconv.FormatBool(form.bare), "-size", strconv.Itoa(form.size), "-for", pick(b, time.Second, 200*time.Millisecond).String())
	if err != nil {
		return err
	}
	var result map[string]float64
	if err := json.Unmarshal(out, &result); err != nil {
		return fmt.Errorf("read what writers says: %w", err)
	}
	b.report.Samples = append(b.report.Samples, report.Sample{
		Run: b.report.ID, Scenario: b.scenario, Server: form.name, Round: round, Order: len(b.report.Samples), Result: result,
	})
	form.found = append(form.found, b.figure(result["per_second"]))
	form.redis, form.client = append(form.redis, result["redis_cpu_share"]), append(form.client, result["client_cpu_share"])
	stats, err := rdb.Info(ctx, "commandstats").Result()
	if err != nil {
		return fmt.Errorf("read commandstats: %w", err)
	}
	if _, rest, ok := strings.Cut(stats, "cmdstat_evalsha:"); ok {
		var calls, usec int64
		var each float64
		if _, err := fmt.Sscanf(rest, "calls=%d,usec=%d,usec_per_call=%f", &calls, &usec, &each); err == nil {
			form.script = append(form.script, each)
		}
	}
	return nil
}
