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
	forms := []struct {
		name string
		bare bool
		size int
	}{{"bare, ten", true, 10}, {"store, ten", false, 10}, {"bare, singly", true, 1}, {"store, singly", false, 1}}
	found := make([][]report.Figure, len(forms))
	script := make([][]float64, len(forms)) // µs that a call of the script takes
	for round := range b.rounds() {
		for i, form := range forms {
			sample := report.Sample{Run: b.report.ID, Scenario: b.scenario, Server: form.name, Round: round, Order: len(b.report.Samples)}
			if err := rdb.ConfigResetStat(ctx).Err(); err != nil {
				return fmt.Errorf("reset commandstats: %w", err)
			}
			out, err := machine.Output(ctx, b.report.Cores.Load, filepath.Join(b.bin, "writers"), "-redis", addr,
				"-bare="+strconv.FormatBool(form.bare), "-size", strconv.Itoa(form.size),
				"-for", pick(b, 1500*time.Millisecond, 200*time.Millisecond).String())
			if err != nil {
				return err
			}
			var result map[string]float64
			if err := json.Unmarshal(out, &result); err != nil {
				return fmt.Errorf("read what writers says: %w", err)
			}
			sample.Result = result
			b.report.Samples = append(b.report.Samples, sample)
			found[i] = append(found[i], b.figure(result["per_second"]))
			stats, err := rdb.Info(ctx, "commandstats").Result()
			if err != nil {
				return fmt.Errorf("read commandstats: %w", err)
			}
			if _, rest, ok := strings.Cut(stats, "cmdstat_evalsha:"); ok {
				var calls, usec int64
				var each float64
				if _, err := fmt.Sscanf(rest, "calls=%d,usec=%d,usec_per_call=%f", &calls, &usec, &each); err == nil {
					script[i] = append(script[i], each)
				}
			}
		}
	}
	for _, r := range []struct {
		what         string
		store, alike int
		limit        float64
	}{{"appends in calls of ten", 1, 0, minAppendTens}, {"appends singly", 3, 2, minAppendSingly}} {
		ratios, err := report.Ratios(found[r.store], found[0])
		if err != nil {
			return err
		}
		alike, err := report.Ratios(found[r.store], found[r.alike])
		if err != nil {
			return err
		}
		row := report.Row{
			What: r.what, Unit: "events/s", Floor: report.Value(report.MedianOf(found[0])),
			Subscriber: report.Value(report.MedianOf(found[r.store])),
			Check:      b.atLeast(report.Median(ratios), r.limit, "x bare commands"),
		}
		row.Note = fmt.Sprintf("the script takes %.0f µs a call", report.Median(script[r.store]))
		if r.alike != 0 {
			row.Note += fmt.Sprintf("; %.2f x bare commands in pipelines of one event, which make %.0f/s", report.Median(alike), report.MedianOf(found[r.alike]))
		}
		b.row(row)
	}
	return nil
}
