package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/pkg/progress"
)

type watchCommand struct {
	ID    string `arg:"" help:"Workflow ID. It may be followed before it is started."`
	RunID string `name:"run" help:"Follow the chain of this run, and not one that ended under the same ID before." placeholder:"RUN-ID"`
	After string `help:"Go on right after this position (the id of a frame) instead of beginning with a snapshot." placeholder:"POSITION"`
	JSON  bool   `name:"json" help:"Print one JSON object per frame, {\"event\",\"id\",\"data\"}. So it is, too, when the output is no terminal."`

	Strategy string   `help:"Follow in this way instead, which the API serves: poll, adaptive, update, signal, push, redis or auto." placeholder:"NAME"`
	APIURL   *url.URL `name:"api-url" env:"RUNCAST_API_URL" default:"http://127.0.0.1:8081" help:"Where the API is, for --strategy." placeholder:"URL"`

	SubscriberURL *url.URL `name:"subscriber-url" env:"RUNCAST_SUBSCRIBER_URL" default:"http://127.0.0.1:8080" help:"Where the subscriber is." placeholder:"URL"`
}

// Validate is called by kong, also where the ID is missing, which kong then
// says itself.
func (c *watchCommand) Validate() error {
	if c.ID != "" {
		if err := progress.CheckWorkflowID(c.ID); err != nil {
			return err
		}
	}
	if u := c.SubscriberURL; (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("--subscriber-url (RUNCAST_SUBSCRIBER_URL) %q is no http or https URL", u.Redacted())
	}
	if u := c.APIURL; c.Strategy != "" && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		return fmt.Errorf("--api-url (RUNCAST_API_URL) %q is no http or https URL", u.Redacted())
	}
	if c.After != "" {
		_, err := progress.ParsePosition(c.After)
		if err != nil && c.Strategy != "" {
			_, err = progress.ParseVersion(c.After)
		}
		if err != nil {
			return fmt.Errorf("--after: %w", err)
		}
	}
	return nil
}

func (c *watchCommand) Run(ctx context.Context, std streams) error {
	if err := progress.CheckWorkflowID(c.ID); err != nil {
		return err // it was given, as ""
	}
	// A misspelt variable would have it look at another server in silence.
	// The services' own are fine: many shells have them.
	if err := settings.CheckUnknown(settings.EnvOf(os.Environ())); err != nil {
		return err
	}
	return c.follow(ctx, std)
}

// follow shows the run until it ends.
func (c *watchCommand) follow(ctx context.Context, std streams) error {
	var show display = &lines{w: std.out}
	if width := std.width(); width > 0 && !c.JSON {
		show = &terminal{w: std.out, width: std.width, workflow: c.ID, now: time.Now}
	}
	f := &follower{
		// No timeout: a stream lasts as long as its run. The follower has
		// its own watchdog.
		client:   &http.Client{},
		base:     c.SubscriberURL,
		workflow: c.ID,
		run:      c.RunID,
		position: c.After,
		strategy: c.Strategy,
		viewer:   rand.Text(),
		note:     func(format string, args ...any) { show.note(std.err, fmt.Sprintf(format, args...)) },
	}
	if c.Strategy != "" {
		f.base = c.APIURL
	}
	return watch(ctx, f, show)
}

// display shows frames to somebody. It is used by one goroutine at a time.
type display interface {
	// frame shows a frame.
	frame(f frame) error
	// tick is called a few times a second while nothing comes.
	tick() error
	// note says something about the connection.
	note(stderr io.Writer, text string)
	// close leaves the output in good order.
	close()
}

// watch follows until the end and returns how the program exits.
func watch(ctx context.Context, f *follower, show display) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	frames := make(chan frame)
	notes := make(chan string)
	note := f.note
	// The follower speaks from its own goroutine, the display belongs to
	// this one.
	f.note = func(format string, args ...any) {
		select {
		case notes <- fmt.Sprintf(format, args...):
		case <-ctx.Done():
		}
	}
	done := make(chan error, 1)
	go func() { done <- f.frames(ctx, frames) }()

	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	defer show.close()
	var end []byte
	for {
		var err error
		select {
		case next := <-frames:
			if next.kind == "end" {
				end = next.data
			}
			err = show.frame(next)
		case text := <-notes:
			note("%s", text)
		case <-ticker.C:
			err = show.tick()
		case err := <-done:
			return verdict(ctx, f, end, err)
		}
		if err != nil {
			cancel()
			<-done //nolint:errcheck // it was cancelled; why is known
			return fmt.Errorf("write the output: %w", err)
		}
	}
}

// verdict is the program's exit, from the end frame or, where that was seen
// before, from the snapshot.
func verdict(ctx context.Context, f *follower, end []byte, err error) error {
	var status progress.Status
	switch {
	case errors.Is(err, errEnded):
		s, err := f.status(ctx)
		if err != nil {
			return err
		}
		status = s.Status
	case err != nil:
		return err
	default:
		var closed progress.Event
		if err := json.Unmarshal(end, &closed); err != nil {
			return fmt.Errorf("read the end: %w", err)
		}
		status = closed.Status
	}
	if status == progress.StatusCompleted {
		return nil
	}
	return &exitError{code: exitNotCompleted}
}
