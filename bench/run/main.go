// Command run measures the subscriber beside the floor and the naive server,
// all within one run, and says which figures of the performance budget are
// met. See docs/bench.md.
//
// It exits with 1 when a figure is not met, with 2 on an error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/runcast/runcast/bench/internal/machine"
	"github.com/runcast/runcast/bench/internal/proc"
	"github.com/runcast/runcast/bench/internal/report"
)

// errMissed says that a figure of the budget is not met.
var errMissed = errors.New("not within the budget")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil:
	case errors.Is(err, errMissed):
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
}

// scenario is one part of the table.
type scenario struct {
	name string
	run  func(context.Context, *bench) error
	// asked: it is measured only when it is named.
	asked bool
}

// scenarios are measured in this order.
var scenarios = []scenario{
	{name: "cpu", run: cpu},
	{name: "tls", run: secure},
	{name: "memory", run: memory},
	{name: "overload", run: overload},
	{name: "topics", run: topics},
	{name: "latest", run: latest},
	{name: "slow", run: slow},
	{name: "growth", run: growth},
	{name: "frames", run: frames},
	{name: "storm", run: storm},
	{name: "append", run: appends},
	{name: "reports", run: reports},
	{name: "webhooks", run: webhooks},
	{name: "scale", run: scale, asked: true},
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("run", flag.ContinueOnError)
	f.SetOutput(stderr)
	bin := f.String("bin", "bin/bench", "`directory` of the programs: floor, naive, subscriber, load, writers, reports, webhooks, temporald")
	quick := f.Bool("quick", false, "a smoke test of less than a minute; times are not judged")
	only := f.String("only", "", "measure these scenarios only, `a,b`")
	out := f.String("json", "", "write all results to this `file`")
	show := f.Bool("show", false, "print the results in the files that are named; they must be of one run")
	markdown := f.Bool("markdown", false, "print the budget's part of the table as Markdown")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if *show {
		r, err := report.Read(f.Args()...)
		if err != nil {
			return err
		}
		return finish(r, stdout, *markdown)
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unknown argument %q", f.Arg(0))
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	b, err := newBench(*bin, *quick, stderr)
	if err != nil {
		return err
	}
	defer b.close()
	if err := b.start(ctx); err != nil {
		return err
	}
	began := time.Now()
	before, err := proc.ReadMachine(b.report.Cores.Server, b.report.Cores.Load)
	if err != nil {
		return err
	}
	for _, s := range scenarios {
		if chosen[s.name] {
			b.scenario = s.name
			at := time.Now()
			if err := s.run(ctx, b); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			b.say("%s: %.1f s", s.name, time.Since(at).Seconds())
		}
	}
	b.report.Seconds = time.Since(began).Seconds()
	now, err := proc.ReadMachine(b.report.Cores.Server, b.report.Cores.Load)
	if err != nil {
		return err
	}
	spent := now.Sub(before)
	b.report.Stolen = float64(spent.Stolen) / float64(max(spent.All, 1))
	if *out != "" {
		if err := b.report.Write(*out); err != nil {
			return err
		}
	}
	return finish(b.report, stdout, *markdown)
}

// choose returns the scenarios in the list, or all that need not be asked for.
func choose(list string) (map[string]bool, error) {
	chosen := make(map[string]bool)
	var names []string
	for _, s := range scenarios {
		names = append(names, s.name)
		chosen[s.name] = list == "" && !s.asked
	}
	if list == "" {
		return chosen, nil
	}
	for name := range strings.SplitSeq(list, ",") {
		if _, ok := chosen[name]; !ok {
			return nil, fmt.Errorf("unknown scenario %q; there are %s", name, strings.Join(names, ", "))
		}
		chosen[name] = true
	}
	return chosen, nil
}

// finish prints the table and what it comes to.
func finish(r *report.Run, stdout io.Writer, markdown bool) error {
	form := r.Table
	if markdown {
		form = r.Markdown
	}
	if err := form(stdout); err != nil {
		return err
	}
	if n := r.Missed(); n > 0 {
		return fmt.Errorf("%d of the figures are %w", n, errMissed)
	}
	return nil
}

// newBench checks that all programs are there.
func newBench(bin string, quick bool, stderr io.Writer) (*bench, error) {
	b := &bench{bin: bin, stderr: stderr, report: report.New(quick), quick: quick}
	for _, name := range []string{floor, naive, subscriber, "load", "writers", "reports", "webhooks", "temporald"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			return nil, fmt.Errorf("-bin: %w; `make bench` builds it", err)
		}
	}
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, fmt.Errorf("redis-server is needed: %w", err)
	}
	var err error
	if b.report.Cores, err = machine.PickCores(); err != nil {
		return nil, err
	}
	b.report.Describe()
	return b, nil
}
