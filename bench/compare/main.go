// Command compare follows the same runs in each of the ways that there are,
// and says what each costs Temporal and how late it is: as a table, as JSON
// and as a plot. See docs/strategies.md.
//
// It exits with 1 when a claim does not hold, with 2 on an error.
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
	"syscall"
	"time"

	"github.com/runcast/runcast/bench/internal/machine"
	"github.com/runcast/runcast/bench/internal/proc"
	"github.com/runcast/runcast/bench/internal/report"
)

// errClaim says that a claim does not hold.
var errClaim = errors.New("not so")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil:
	case errors.Is(err, errClaim):
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	default:
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(2)
	}
}

// settings are the command's.
type settings struct {
	bin, out, only, docs, show string
	quick                      bool
	within                     time.Duration
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o settings
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.bin, "bin", "bin/bench", "`directory` of the programs: follow, watch, runs, temporald")
	f.StringVar(&o.out, "out", "bin", "`directory` for compare.json, compare.md and compare.svg")
	f.BoolVar(&o.quick, "quick", false, "a smoke test of less than a minute; times are not judged")
	f.StringVar(&o.only, "only", "", "measure these strategies only, `a,b`")
	f.DurationVar(&o.within, "within", 14*time.Minute, "leave out what would begin later than that")
	f.StringVar(&o.show, "show", "", "measure nothing; print the results in this `file`")
	f.StringVar(&o.docs, "docs", "", "put the tables and the plot into this `directory` as well, which has strategies.md")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unknown argument %q", f.Arg(0))
	}
	if o.show != "" {
		c, err := readComparison(o.show)
		if err != nil {
			return err
		}
		return finish(c, o, stdout)
	}
	c, err := compare(ctx, o, stderr)
	if err != nil {
		return err
	}
	return finish(c, o, stdout)
}

// compare measures.
func compare(ctx context.Context, o settings, stderr io.Writer) (*comparison, error) {
	names, err := choose(o.only)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"follow", "watch", "runs", "temporald"} {
		if _, err := os.Stat(filepath.Join(o.bin, name)); err != nil {
			return nil, fmt.Errorf("-bin: %w; `make compare` builds it", err)
		}
	}
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, fmt.Errorf("redis-server is needed: %w", err)
	}
	c := &comparison{Run: *report.New(o.quick)}
	if c.Cores, err = machine.PickCores(); err != nil {
		return nil, err
	}
	c.Describe()
	before, err := proc.ReadMachine(c.Cores.Server, c.Cores.Load)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := measure(ctx, c, o, names, began.Add(o.within), stderr); err != nil {
		return nil, err
	}
	c.Seconds = time.Since(began).Seconds()
	now, err := proc.ReadMachine(c.Cores.Server, c.Cores.Load)
	if err != nil {
		return nil, err
	}
	spent := now.Sub(before)
	c.Stolen = float64(spent.Stolen) / float64(max(spent.All, 1))
	return c, nil
}

// finish writes and prints what was found.
func finish(c *comparison, o settings, stdout io.Writer) error {
	if err := c.write(o); err != nil {
		return err
	}
	if err := c.table(stdout); err != nil {
		return err
	}
	if n := c.failed(); n > 0 {
		return fmt.Errorf("%d of the claims are %w", n, errClaim)
	}
	return nil
}
