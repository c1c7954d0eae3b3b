package embedded

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/runcast/runcast/cmd/dev/internal/dynamic"
)

// stopWithin bounds how long an orderly stop may take, all of it.
const stopWithin = 9 * time.Second

// TemporalCommand runs the Temporal server alone; tests start it as a
// process.
type TemporalCommand struct {
	Addr      string         `name:"temporal-addr" default:"127.0.0.1:7233" help:"Where to listen; port 0 takes a free one."`
	Metrics   string         `name:"metrics-addr" help:"Where the server tells its own metrics, for Prometheus. Empty: nowhere."`
	Fine      bool           `name:"fine-timers" help:"Sleeps of some milliseconds take as long, not up to a second."`
	Dynamic   dynamic.Values `name:"dynamic-config-value" placeholder:"KEY=VALUE" sep:"none" help:"A setting of the server's dynamic configuration, with a value in JSON, such as frontend.namespaceRPS=100. May be given several times."`
	ParentPID int            `name:"parent-pid" help:"Stop when the parent process is no longer this one. 0: do not watch."`
	Stdin     bool           `name:"until-stdin-ends" help:"Stop when standard input ends."`
}

// Run runs the server until ctx ends, or whoever started it. It prints one
// line, "temporal ready at HOST:PORT", once the server takes calls.
func (c *TemporalCommand) Run(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
	logger := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if c.Stdin {
		// It ends with the process at the latest: a read cannot be cancelled.
		go func() {
			io.Copy(io.Discard, stdin)
			cancel()
		}()
	}
	if c.ParentPID != 0 {
		go func() {
			watchParent(ctx, c.ParentPID)
			cancel()
		}()
	}
	server, err := StartTemporal(ctx, c.Addr, logger, WithMetrics(c.Metrics), WithFineTimers(c.Fine), WithDynamicConfig(c.Dynamic))
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "temporal ready at %s\n", server.Addr)
	<-ctx.Done()
	stopCtx, done := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer done()
	return server.Stop(stopCtx)
}

// watchParent returns when the parent is no longer pid: a parent that was
// killed could not stop its child, which then belongs to another process.
func watchParent(ctx context.Context, pid int) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for os.Getppid() == pid {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
