// Command runcast is Runcast in a terminal: it follows runs and asks services
// how they are. It speaks to the services over HTTP only, like any viewer.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// What the program exits with, beside 0.
const (
	exitNotCompleted = 1 // the run ended otherwise than completed; the service is not healthy
	exitTrouble      = 2 // wrong usage, or the answer could not be had
	exitInterrupted  = 130
)

type commands struct {
	Watch       watchCommand       `cmd:"" help:"Follow a workflow until it ends. Exits with 0 if it completed, 1 if it ended otherwise, 2 if that could not be learned."`
	SMS         smsCommand         `cmd:"" name:"sms" help:"Send a message, as if it had come by SMS, and watch it being answered. Exits like watch."`
	DeadLetters deadLettersCommand `cmd:"" name:"deadletters" help:"List what runs could not push to webhooks, send it again, or drop it."`
	PushSecret  pushSecretCommand  `cmd:"" name:"push-secret" help:"Print the secrets with which a receiver of webhooks verifies them."`
	Health      healthCommand      `cmd:"" help:"Ask a service how it is. Exits with 0 if it answers 200. Made for health checks in images that hold no shell."`
	Version     versionCommand     `cmd:"" help:"Print the version."`
}

// streams are where a command reads nothing from and writes to.
type streams struct {
	out io.Writer
	err io.Writer
	// width returns the terminal's width in columns, or 0 if out is none.
	width func() int
}

// exitError ends the program with a code of its own. A nil cause says nothing
// more: all has been said.
type exitError struct {
	code  int
	cause error
}

func (e *exitError) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.cause.Error()
}

func (e *exitError) Unwrap() error { return e.cause }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], streams{out: os.Stdout, err: os.Stderr, width: func() int { return terminalWidth(os.Stdout) }})
	stop()
	os.Exit(code)
}

// run is main without the process around it: it returns the exit code.
func run(ctx context.Context, args []string, std streams) int {
	var c commands
	exited := -1
	parser, err := kong.New(&c,
		kong.Name("runcast"),
		kong.Description("Live progress of Temporal workflows, in a terminal."),
		kong.Writers(std.out, std.err),
		kong.Exit(func(code int) { exited = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.UsageOnError(),
	)
	if err != nil {
		panic(err) // the commands above are declared wrongly
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 { // --help has been answered
		return exited
	}
	if err != nil {
		fmt.Fprintf(std.err, "runcast: %v\nTry \"runcast --help\".\n", err)
		return exitTrouble
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	return exitCode(parsed.Run(std), std.err)
}

func exitCode(err error, w io.Writer) int {
	var exit *exitError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &exit):
		if exit.cause != nil {
			fmt.Fprintf(w, "runcast: %v\n", exit.cause)
		}
		return exit.code
	}
	fmt.Fprintf(w, "runcast: %v\n", err)
	return exitTrouble
}
