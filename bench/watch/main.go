// Command watch holds the viewers when strategies are compared and their
// viewers share: each has a stream of the service that package follow serves.
// It tells as JSON what each of them saw.
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
	"syscall"
	"time"

	"github.com/runcast/runcast/bench/internal/arm"
	"github.com/runcast/runcast/bench/internal/streams"
	"github.com/runcast/runcast/bench/internal/viewers"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "watch:", err)
		os.Exit(2)
	}
}

// run reads the runs' IDs and the viewers from stdin, and writes the viewers
// with what they saw to stdout.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("watch", flag.ContinueOnError)
	f.SetOutput(stderr)
	server := f.String("server", "", "`address` of the service, of this machine's loopback")
	strategy := f.String("strategy", "", "`name` of the strategy")
	spread := f.Duration("spread", 0, "the viewers come within so long")
	within := f.Duration("within", time.Minute, "how long they stay at most")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if _, err := viewers.Loopback(*server); err != nil {
		return err
	}
	var in arm.Audience
	if err := json.NewDecoder(stdin).Decode(&in); err != nil {
		return fmt.Errorf("read who watches what: %w", err)
	}
	if err := in.Check(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *within)
	defer cancel()
	if err := streams.Follow("http://"+*server, *strategy)(ctx, in.Runs, in.Viewers, *spread); err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(in.Viewers)
}
