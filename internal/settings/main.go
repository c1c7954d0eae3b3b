package settings

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// A RunFunc is a program: everything that it takes from its process is
// handed to it.
type RunFunc func(ctx context.Context, args []string, env Env, stdout, stderr io.Writer) error

// Main runs a program in this process until it ends or is told to, and
// returns the process's exit code. A second signal ends the process at once.
func Main(name string, run RunFunc) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], EnvOf(os.Environ()), os.Stdout, os.Stderr)
	switch {
	case err == nil, errors.Is(err, ErrHelp):
		return 0
	default:
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 1
	}
}
