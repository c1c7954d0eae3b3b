package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/problem"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/webhook"
)

// CallbackPath is where runs tell this node of changes.
const CallbackPath = "/v1/strategies/callback"

// DeadLetters are the webhooks that could not be delivered. A letter that is
// not there is [progress.ErrNotFound].
type DeadLetters interface {
	// List returns a page, newest first, and where the next one begins.
	List(ctx context.Context, cursor string, limit int) (letters []webhook.Letter, next string, err error)
	// Replay sends a letter again, once: [webhook.ErrReplaying] is for who
	// comes meanwhile. An [*webhook.Error] is the receiver's.
	Replay(ctx context.Context, id string) error
	Remove(ctx context.Context, id string) error
}

// defaultLetters and maxLetters are how many letters a page has.
const (
	defaultLetters = 50
	maxLetters     = 200
)

// letterPage is the answer of GET /v1/deadletters.
type letterPage struct {
	DeadLetters []webhook.Letter `json:"deadletters"`
	NextCursor  string           `json:"next_cursor,omitempty"`
}

func (a *api) listLetters(w http.ResponseWriter, r *http.Request) {
	if !a.hasLetters(w) {
		return
	}
	bad := func(format string, args ...any) {
		problem.Write(w, problem.Problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf(format, args...)})
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		bad("The query cannot be read: %v.", err)
		return
	}
	limit := defaultLetters
	for name, values := range query {
		if len(values) > 1 {
			bad("%s is there twice; give it once.", clip(name))
			return
		}
		switch name {
		case "cursor":
		case "limit":
			if limit, err = strconv.Atoi(values[0]); err != nil || limit < 1 || limit > maxLetters {
				bad("limit is %q; it must be from 1 to %d.", clip(values[0]), maxLetters)
				return
			}
		default:
			bad("There is no query parameter %q; this route takes cursor and limit.", clip(name))
			return
		}
	}
	letters, next, err := a.DeadLetters.List(r.Context(), query.Get("cursor"), limit)
	if err != nil {
		a.letterError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, letterPage{letters, next})
}

func (a *api) replayLetter(w http.ResponseWriter, r *http.Request) {
	id, err := pathID(r)
	if !a.hasLetters(w) {
		return
	}
	if err == nil {
		err = a.DeadLetters.Replay(r.Context(), id)
	}
	if err != nil {
		a.letterError(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (a *api) deleteLetter(w http.ResponseWriter, r *http.Request) {
	id, err := pathID(r)
	if !a.hasLetters(w) {
		return
	}
	if err == nil {
		err = a.DeadLetters.Remove(r.Context(), id)
	}
	if err != nil {
		a.letterError(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (a *api) hasLetters(w http.ResponseWriter) bool {
	if a.DeadLetters == nil {
		problem.Write(w, problem.Problem{Status: http.StatusServiceUnavailable, Detail: "This server keeps no dead letters."})
		return false
	}
	return true
}

// letterError answers what went wrong with a letter. A receiver that does not
// take it is a gateway's fault.
func (a *api) letterError(w http.ResponseWriter, r *http.Request, err error) {
	var refused *webhook.Error
	switch {
	case r.Context().Err() != nil:
		return // the client has gone; nobody reads an answer
	case errors.Is(err, webhook.ErrReplaying):
		w.Header().Set("Retry-After", "1")
		problem.Write(w, problem.Problem{Status: http.StatusConflict, Detail: "The dead letter is being sent right now; look again when that is over."})
	case errors.As(err, &refused):
		problem.Write(w, problem.Problem{
			Status: http.StatusBadGateway, Detail: "It was not taken, and stays: " + refused.Reason + ".",
			Extra: map[string]any{"final": refused.Final},
		})
	default:
		if !errors.Is(err, progress.ErrNotFound) && !errors.Is(err, progress.ErrInvalid) {
			a.Logger.Error("dead letters cannot be had", "method", r.Method, "path", r.URL.Path, "error", err)
		}
		problem.Error(w, err)
	}
}

// callback takes what a run tells this node.
func (a *api) callback(w http.ResponseWriter, r *http.Request) {
	if a.Callback == nil {
		problem.Write(w, problem.Problem{
			Status: http.StatusServiceUnavailable,
			Detail: "This server has no secret to verify webhooks with, and takes none unchecked; set RUNCAST_PUSH_SECRETS.",
		})
		return
	}
	a.Callback.ServeHTTP(w, r)
}

// checkPush returns what is wrong with the URLs of a start, or nil.
func (a *api) checkPush(urls []string) *problem.Problem {
	bad := func(format string, args ...any) *problem.Problem {
		return &problem.Problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf(format, args...)}
	}
	switch {
	case len(urls) == 0:
		return nil
	case a.CheckPush == nil:
		return bad(`"push" is not possible: this server has no secret to sign webhooks with; set RUNCAST_PUSH_SECRETS on API and workers.`)
	case len(urls) > handlers.MaxPushURLs:
		return bad(`"push" has %d entries; %d are allowed.`, len(urls), handlers.MaxPushURLs)
	}
	for i, u := range urls {
		if err := a.CheckPush(u); err != nil {
			return bad(`"push", entry %d: %v.`, i+1, err)
		}
	}
	return nil
}
