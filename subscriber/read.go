package subscriber

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/runcast/runcast/pkg/problem"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// The bounds of a page of history.
const (
	defaultEvents = 100
	maxEvents     = 1000
	// maxEventsBytes bounds the events of a page, in bytes of JSON. One event
	// may have 256 KiB, so a thousand could fill the node's memory.
	maxEventsBytes = 4 << 20
	// eventsRead is how many are read from the store at a time: so what is
	// read for a page is bounded too, and a page of the default limit is one
	// reading.
	eventsRead = defaultEvents
)

// snapshot answers GET /v1/workflows/{id}. Its ETag is the position.
func (s *Server) snapshot(w http.ResponseWriter, r *http.Request) {
	id, err := pathID(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if _, err := noParameters.query(r); err != nil {
		s.fail(w, r, err)
		return
	}
	snap, err := s.o.Store.Snapshot(r.Context(), id)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	tag := `"` + snap.Position().String() + `"`
	w.Header().Set("ETag", tag)
	w.Header().Set("Cache-Control", "no-cache") // may be kept, but is to be asked for
	if matches(r.Header.Values("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	writeJSON(w, snap)
}

// matches reports whether an If-None-Match names the tag.
func matches(headers []string, tag string) bool {
	for _, h := range headers {
		for one := range strings.SplitSeq(h, ",") {
			one = strings.TrimPrefix(strings.TrimSpace(one), "W/")
			if one == tag || one == "*" {
				return true
			}
		}
	}
	return false
}

// eventsPage is one page of history.
type eventsPage struct {
	// Events are in wire form, the oldest first. They may be fewer than were
	// asked for though there are more.
	Events []json.RawMessage `json:"events"`
	// FirstSeq is the first seq that the stream still holds; 0: none.
	FirstSeq int64 `json:"first_seq"`
	// Next is the position after the last event: the next page's after. It
	// is that of the request when the page is empty.
	Next string `json:"next"`
	// More says that there are newer events already.
	More bool `json:"more"`
}

// events answers GET /v1/workflows/{id}/events: what the stream still holds
// after a position, or from its beginning.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	id, err := pathID(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	q, err := eventsParameters.query(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	var after progress.Position
	if text := q.Get("after"); text != "" {
		if after, err = progress.ParsePosition(text); err != nil {
			s.fail(w, r, err)
			return
		}
	}
	limit, err := number(q, "limit", defaultEvents, maxEvents)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	page, gone, err := readPage(r.Context(), s.o.Store.Read, id, after, limit)
	switch {
	case err != nil:
		s.fail(w, r, err)
	case gone != "":
		problem.Write(w, problem.Problem{
			Status: http.StatusGone,
			Detail: "The stream cannot be read on from " + after.String() + ": " + gone + " Read it from its beginning, without after.",
		})
	default:
		writeJSON(w, page)
	}
}

// readPage reads the events after a position, up to limit and maxEventsBytes,
// but at least one if there is one. Gone says why the stream cannot be read on
// from there, or is empty. Where it cannot be read on from the midst of the
// page, which it could be a moment ago, the page ends there and has more: who
// asks for that learns why.
func readPage(
	ctx context.Context, read func(ctx context.Context, id string, from int64, limit int) (progress.View, error),
	id string, after progress.Position, limit int,
) (page eventsPage, gone string, err error) {
	page = eventsPage{Events: []json.RawMessage{}, Next: after.String()}
	for at, size := after, 0; ; {
		most := min(limit-len(page.Events), eventsRead)
		// The event at the position is read too, to compare it.
		view, err := read(ctx, id, max(at.Seq, 1), most+1)
		if err != nil {
			return page, "", err
		}
		events, begun := view.Events, len(page.Events) > 0
		if view.Snapshot.Seq == 0 && !begun {
			return page, "", fmt.Errorf("workflow %q: %w", id, progress.ErrNotFound)
		}
		if !at.IsZero() {
			if reason := compare(at, &view); reason != "" && begun {
				page.More = true
				return page, "", nil
			} else if reason != "" {
				return page, reason, nil
			}
			events = events[min(1, len(events)):]
		}
		if !begun {
			page.FirstSeq = view.Snapshot.FirstSeq
		}
		events = events[:min(len(events), most)]
		full := len(events) == 0
		for _, e := range events {
			if full = len(page.Events) > 0 && size+len(e.Data) > maxEventsBytes; full {
				break
			}
			page.Events = append(page.Events, e.Data)
			size += len(e.Data)
		}
		n := len(page.Events)
		if n == 0 {
			return page, "", nil
		}
		var last progress.Event
		if err := json.Unmarshal(page.Events[n-1], &last); err != nil {
			return page, "", fmt.Errorf("read event of %q: %w", id, err)
		}
		at = last.Position()
		page.Next, page.More = at.String(), at.Seq < view.Snapshot.Seq
		if full || n == limit || !page.More {
			return page, "", nil
		}
	}
}

// compare says why a position is not one of the stream, or "".
func compare(after progress.Position, view *progress.View) string {
	snap := &view.Snapshot
	switch {
	case after.Epoch != snap.Epoch:
		return "it is of another epoch."
	case after.Seq > snap.Seq:
		return "the stream does not reach it."
	case after == snap.Position():
		return ""
	case len(view.Events) == 0 || view.Events[0].Seq != after.Seq:
		return "it is trimmed."
	}
	var e progress.Event
	if json.Unmarshal(view.Events[0].Data, &e) != nil || e.Check != after.Check {
		return "the stream has another event there."
	}
	return ""
}

// list answers GET /v1/workflows.
func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	q, err := listParameters.query(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	limit, err := number(q, "limit", redisstore.DefaultListLimit, redisstore.MaxListLimit)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	status := progress.Status(q.Get("status"))
	if status != "" && status != progress.StatusQueued && status != progress.StatusRunning && !status.IsTerminal() {
		s.fail(w, r, invalid("unknown status %q; use queued, running, completed, failed, canceled, terminated, timed_out or unknown", clip(string(status))))
		return
	}
	items, next, err := s.o.Store.List(r.Context(), redisstore.ListQuery{
		Tag: q.Get("tag"), Status: status, Type: q.Get("type"), Limit: limit, Cursor: q.Get("cursor"),
	})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if items == nil {
		items = []progress.Summary{}
	}
	writeJSON(w, map[string]any{"workflows": items, "next_cursor": next})
}

// number reads a parameter between 1 and most.
func number(q url.Values, name string, or, most int) (int, error) {
	text := q.Get(name)
	if text == "" {
		return or, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, invalid("%s is %q; it is a number from 1 to %d", name, clip(text), most)
	}
	return n, nil
}

// clip bounds a stranger's input in a message.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
