package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

const (
	// A server sends a heartbeat every 15 s; three missed are a dead link.
	silence     = 45 * time.Second
	firstPause  = 250 * time.Millisecond
	longestWait = 10 * time.Second
	openWithin  = 15 * time.Second
	// A subscriber that says, from the beginning, that it cannot answer now is
	// asked again for that long: it may have just been started.
	firstWithin = 30 * time.Second
)

// errEnded: there is nothing after the position that was gone on from; the
// chain ended with it.
var errEnded = errors.New("the chain ended at this position")

// refusedError is an answer that will stay the same.
type refusedError struct{ why string }

func (e *refusedError) Error() string { return e.why }

// busyError is an answer that may be another one later.
type busyError struct {
	why   string
	after time.Duration // what the server asked for; 0: nothing
}

func (e *busyError) Error() string { return e.why }

// follower follows one workflow, across lost connections.
type follower struct {
	client   *http.Client
	base     *url.URL // of the subscriber, or of the API for a strategy
	workflow string
	run      string // "" follows the newest chain
	position string // to go on from; "" begins with a snapshot
	strategy string // in which to follow; "" is the subscriber's own way
	viewer   string // who follows, to whom auto gives one strategy each time
	// note tells a person what happens to the connection.
	note func(format string, args ...any)

	connected bool          // once, at least
	retry     time.Duration // what the server asked for
}

// frames sends every frame to out until the end frame, which is the last. It
// returns nil after that, errEnded when there is nothing to come, and
// otherwise why it gave up: the context, or an answer that would not change.
// A server that has never answered is given up at once, since then it is
// more likely that the address is wrong; one that has only ever said that it
// cannot answer now, after a while.
func (f *follower) frames(ctx context.Context, out chan<- frame) error {
	pause := firstPause
	giveUp := time.Now().Add(firstWithin)
	for {
		heard, err := f.connection(ctx, out)
		var refused *refusedError
		var busy *busyError
		isBusy := errors.As(err, &busy)
		switch {
		case err == nil, errors.Is(err, errEnded), errors.As(err, &refused):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case !f.connected && isBusy && time.Now().Before(giveUp):
		case !f.connected && isBusy:
			return fmt.Errorf("gave up after %v: %w", firstWithin, err)
		case !f.connected:
			name := strings.ToLower(f.server())
			return fmt.Errorf("cannot reach the %s at %s (set --%s-url or RUNCAST_%s_URL): %w",
				f.server(), f.base.Redacted(), name, strings.ToUpper(name), err)
		}
		if heard {
			pause = firstPause
		}
		wait := max(pause, f.retry)/2 + rand.N(max(pause, f.retry)/2+1)
		if isBusy {
			wait = max(wait, min(busy.after, longestWait))
		}
		lost := "connection lost"
		if !f.connected {
			lost = "no connection yet"
		}
		f.note("%s (%v); trying again in %v", lost, err, wait.Round(10*time.Millisecond))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		pause = min(2*pause, longestWait)
	}
}

// connection follows over one connection. It returns nil after the end
// frame; heard says whether any frame came.
func (f *follower) connection(ctx context.Context, out chan<- frame) (heard bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(openWithin, func() { cancel(errors.New("the server is silent")) })
	defer watchdog.Stop()

	res, err := f.open(ctx)
	if err != nil {
		return false, causeOf(ctx, err)
	}
	defer res.Body.Close()
	f.connected = true
	watchdog.Reset(silence)
	reader := newSSEReader(res.Body, func() { watchdog.Reset(silence) })
	defer func() { f.retry = min(reader.retry, longestWait) }()
	for {
		next, err := reader.next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the server closed it")
			}
			return heard, causeOf(ctx, err)
		}
		switch next.kind {
		case "snapshot", "update", "gap", "end":
		default:
			continue // of a newer server
		}
		select {
		case out <- next:
		case <-ctx.Done():
			return heard, causeOf(ctx, ctx.Err())
		}
		heard = true
		if next.id != "" {
			f.position = next.id
		}
		if next.kind == "end" {
			return true, nil
		}
	}
}

// open asks for the stream and returns the answer if it is one.
func (f *follower) open(ctx context.Context) (*http.Response, error) {
	query := url.Values{}
	if f.run != "" {
		query.Set("run", f.run)
	}
	if f.position != "" {
		query.Set("after", f.position)
	}
	at := []string{"v1", "workflows"}
	if f.strategy != "" {
		if f.strategy == "auto" {
			query.Set("viewer", f.viewer)
		}
		at = []string{"v1", "strategies", url.PathEscape(f.strategy), "workflows"}
	}
	res, err := f.get(ctx, "text/event-stream", query, at, "stream")
	if err != nil {
		return nil, err
	}
	switch res.StatusCode {
	case http.StatusOK:
		return res, nil
	case http.StatusNoContent:
		res.Body.Close()
		return nil, errEnded
	}
	defer res.Body.Close()
	return nil, problemOf(f.server(), res)
}

// status reads how the workflow stands.
func (f *follower) status(ctx context.Context) (progress.Snapshot, error) {
	var s progress.Snapshot
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	res, err := f.get(ctx, "application/json", nil, []string{"v1", "workflows"})
	if err != nil {
		return s, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return s, problemOf(f.server(), res)
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxLine)).Decode(&s); err != nil {
		return s, fmt.Errorf("read the snapshot: %w", err)
	}
	return s, nil
}

// get asks for what is under the workflow, whose ID comes behind at.
func (f *follower) get(ctx context.Context, accept string, query url.Values, at []string, under ...string) (*http.Response, error) {
	// An ID may hold slashes and more; JoinPath would take "%2F" apart.
	u := *f.base.JoinPath(at...)
	path := u.EscapedPath() + "/" + escapeID(f.workflow)
	for _, part := range under {
		path += "/" + part
	}
	unescaped, err := url.PathUnescape(path)
	if err != nil {
		return nil, err
	}
	u.Path, u.RawPath, u.RawQuery = unescaped, path, query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", "runcast/"+currentVersion())
	return f.client.Do(req)
}

// escapeID escapes an ID as one segment of a path. A segment of dots alone
// would be taken for a way up.
func escapeID(id string) string {
	switch id {
	case ".":
		return "%2E"
	case "..":
		return "%2E%2E"
	}
	return url.PathEscape(id)
}

// server names who is asked.
func (f *follower) server() string {
	if f.strategy != "" {
		return "API"
	}
	return "subscriber"
}

// problemOf says why an answer is not what was asked for: a busyError where
// it may change by itself, otherwise a refusedError.
func problemOf(who string, res *http.Response) error {
	var problem struct{ Title, Detail string }
	why := res.Status
	if json.NewDecoder(io.LimitReader(res.Body, 64<<10)).Decode(&problem) == nil {
		if text := cmp.Or(problem.Detail, problem.Title); text != "" {
			why += ": " + printable(text)
		}
	}
	switch code := res.StatusCode; {
	case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout:
		after, _ := strconv.Atoi(res.Header.Get("Retry-After")) // a date, or none, is 0
		return &busyError{"the " + who + " answered " + why, time.Duration(min(max(after, 0), 3600)) * time.Second}
	}
	return &refusedError{"the " + who + " answered " + why}
}

// causeOf returns why a connection ended: what cancelled it, if that was
// said, and the innermost network error otherwise.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op
	}
	return err
}

// seconds returns a length of time for people.
func seconds(d time.Duration) string {
	if d < time.Minute {
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	}
	return d.Round(time.Second).String()
}
