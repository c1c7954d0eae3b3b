package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/pkg/webhook"
)

type deadLettersCommand struct {
	List   listLettersCommand   `cmd:"" default:"withargs" help:"List them, newest first."`
	Replay replayLettersCommand `cmd:"" help:"Send one again, or all of them, the oldest first. Exits with 1 if any was not taken."`
	Remove removeLetterCommand  `cmd:"" help:"Drop one."`
}

// lettersAPI is where the dead letters are.
type lettersAPI struct {
	APIURL *url.URL `name:"api-url" env:"RUNCAST_API_URL" default:"http://127.0.0.1:8081" help:"Where the API is." placeholder:"URL"`
}

// Validate is called by kong.
func (c *lettersAPI) Validate() error {
	if u := c.APIURL; (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("--api-url (RUNCAST_API_URL) %q is no http or https URL", u.Redacted())
	}
	return nil
}

type listLettersCommand struct {
	Limit int  `default:"50" help:"How many, 0 for all."`
	JSON  bool `name:"json" help:"Print one JSON object per letter."`
	lettersAPI
}

// Validate is called by kong.
func (c *listLettersCommand) Validate() error {
	if c.Limit < 0 {
		return fmt.Errorf("--limit is %d; give how many letters to list, or 0 for all", c.Limit)
	}
	return c.lettersAPI.Validate()
}

type replayLettersCommand struct {
	ID  string `arg:"" optional:"" help:"Which one."`
	All bool   `help:"All that there are now."`
	lettersAPI
}

type removeLetterCommand struct {
	ID string `arg:"" help:"Which one."`
	lettersAPI
}

// letter is a dead letter as the API shows it.
type letter struct {
	ID         string    `json:"id"`
	URL        string    `json:"url"`
	WorkflowID string    `json:"workflow_id"`
	Reason     string    `json:"reason"`
	Attempts   int       `json:"attempts"`
	Time       time.Time `json:"time"`
}

// lettersWithin bounds one call: a replay may take as long as its receiver.
const lettersWithin = 30 * time.Second

func (c listLettersCommand) Run(ctx context.Context, std streams) error {
	t := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	n := 0
	err := c.each(ctx, func(raw json.RawMessage, l letter) (bool, error) {
		if c.Limit > 0 && n >= c.Limit {
			return false, nil
		}
		n++
		if c.JSON {
			_, err := fmt.Fprintf(std.out, "%s\n", raw)
			return true, err
		}
		_, err := fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", printable(l.ID), l.Time.Local().Format(time.DateTime),
			printable(l.WorkflowID), printable(l.URL), printable(l.Reason))
		return true, err
	})
	if err == nil && n == 0 && !c.JSON {
		_, err = fmt.Fprintln(std.err, "There are no dead letters.")
	}
	return errors.Join(err, t.Flush())
}

func (c replayLettersCommand) Run(ctx context.Context, std streams) error {
	if (c.ID == "") == !c.All {
		return errors.New("name one letter, or give --all")
	}
	if err := settings.CheckUnknown(settings.EnvOf(os.Environ())); err != nil {
		return err
	}
	ids := []string{c.ID}
	if c.All {
		ids = nil
		err := c.each(ctx, func(_ json.RawMessage, l letter) (bool, error) {
			ids = append(ids, l.ID)
			return true, nil
		})
		if err != nil {
			return err
		}
		// A receiver hears of things in the order in which they were.
		slices.Reverse(ids)
	}
	left := 0
	for i, id := range ids {
		err := c.call(ctx, http.MethodPost, id, "/replay")
		var unanswered *url.Error
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &unanswered):
			return fmt.Errorf("%d of %d are left: %w", left+len(ids)-i, len(ids), err)
		case err != nil:
			left++
			fmt.Fprintf(std.err, "%s: %v\n", printable(id), err)
		default:
			fmt.Fprintf(std.out, "%s was taken\n", printable(id))
		}
	}
	if left > 0 {
		return &exitError{exitNotCompleted, fmt.Errorf("%d of %d were not taken", left, len(ids))}
	}
	return nil
}

func (c removeLetterCommand) Run(ctx context.Context, _ streams) error {
	if err := settings.CheckUnknown(settings.EnvOf(os.Environ())); err != nil {
		return err
	}
	return c.call(ctx, http.MethodDelete, c.ID, "")
}

// each calls f with every letter, newest first, until it returns false.
func (c *lettersAPI) each(ctx context.Context, f func(json.RawMessage, letter) (bool, error)) error {
	if err := settings.CheckUnknown(settings.EnvOf(os.Environ())); err != nil {
		return err
	}
	for cursor := ""; ; {
		u := c.APIURL.JoinPath("v1", "deadletters")
		u.RawQuery = url.Values{"limit": {"200"}, "cursor": {cursor}}.Encode()
		var page struct {
			DeadLetters []json.RawMessage `json:"deadletters"`
			NextCursor  string            `json:"next_cursor"`
		}
		if err := c.do(ctx, http.MethodGet, u, &page); err != nil {
			return err
		}
		for _, raw := range page.DeadLetters {
			var l letter
			if err := json.Unmarshal(raw, &l); err != nil {
				return fmt.Errorf("read a dead letter: %w", err)
			}
			if more, err := f(raw, l); err != nil || !more {
				return err
			}
		}
		if cursor = page.NextCursor; cursor == "" {
			return nil
		}
	}
}

// call does something to one letter.
func (c *lettersAPI) call(ctx context.Context, method, id, what string) error {
	u := c.APIURL.JoinPath("v1", "deadletters")
	path := u.EscapedPath() + "/" + escapeID(id) + what
	unescaped, err := url.PathUnescape(path)
	if err != nil {
		return err
	}
	u.Path, u.RawPath = unescaped, path
	return c.do(ctx, method, u, nil)
}

func (c *lettersAPI) do(ctx context.Context, method string, u *url.URL, into any) error {
	ctx, cancel := context.WithTimeout(ctx, lettersWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "runcast/"+currentVersion())
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		var unanswered *url.Error
		if errors.As(err, &unanswered) {
			unanswered.URL = webhook.Redacted(unanswered.URL) // it shows the user
		}
		return fmt.Errorf("ask the API for dead letters: %w", err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 4<<20))
	if err != nil {
		return fmt.Errorf("ask the API for dead letters: %w", err)
	}
	if res.StatusCode >= 300 {
		var problem struct{ Detail string }
		if json.Unmarshal(text, &problem) == nil && problem.Detail != "" {
			return errors.New(printable(problem.Detail))
		}
		return fmt.Errorf("the API answered %s: %s", res.Status, printable(strings.TrimSpace(string(text))))
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s does not answer as the API does", webhook.Redacted(c.APIURL.String()))
	}
	return nil
}
