package subscriber

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"

	"github.com/runcast/runcast/pkg/problem"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/subscriber/hub"
	"github.com/runcast/runcast/subscriber/sse"
	"github.com/runcast/runcast/subscriber/ws"
)

// maxComposite is how many workflows one SSE id can name.
const maxComposite = 16

// maxMessage bounds a message of a WebSocket client: room for an ID of
// [progress.MaxWorkflowIDBytes], escaped, and a position.
const maxMessage = 16 << 10

// position returns where a stream is to go on. Last-Event-ID is what the
// client saw last, after is what its page was made with, so the former wins.
func position(r *http.Request) string {
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		return last
	}
	return r.URL.Query().Get("after")
}

// want reads where and how a viewer begins. A bad position is no error here:
// it is answered with a gap, since a 400 would stop EventSource for good.
func want(text, run, mode string) (hub.Want, error) {
	w := hub.Want{Run: run}
	switch mode {
	case "", "all":
	case "latest":
		w.Latest = true
	default:
		return w, invalid("unknown mode %q; use all or latest", clip(mode))
	}
	if len(run) > progress.MaxWorkflowIDBytes {
		return w, invalid("run has %d bytes; a run ID has far less", len(run))
	}
	setAfter(&w, text)
	return w, nil
}

func setAfter(w *hub.Want, text string) {
	if text == "" {
		return
	}
	if pos, err := progress.ParsePosition(text); err != nil {
		w.Bad, w.Text = true, clip(text)
	} else {
		w.After = &pos
	}
}

// admit takes a place for a stream, which the caller releases, or refuses it
// at once and returns nil. Those who are refused together do not all come
// back together.
func (s *Server) admit(w http.ResponseWriter) *hub.Place {
	place, err := s.hub.Reserve()
	if err == nil {
		return place
	}
	reason, detail := "draining", "This node is stopping; connect again to reach another one."
	if errors.Is(err, hub.ErrFull) {
		reason, detail = "viewers", "This node has as many viewers as it takes; try again later or on another one."
	}
	s.metrics.refused.WithLabelValues(reason).Inc()
	w.Header().Set("Retry-After", strconv.Itoa(1+rand.IntN(1+2*int(s.o.Config.Drain.Seconds()))))
	problem.Write(w, problem.Problem{Status: http.StatusServiceUnavailable, Detail: detail})
	return nil
}

// begin reads the request for one workflow's stream, and takes a place for
// it, which the caller releases. It answers what cannot be streamed, and
// returns no place.
func (s *Server) begin(w http.ResponseWriter, r *http.Request) (t sse.Topic, atEnd bool, place *hub.Place) {
	id, err := pathID(r)
	if err != nil {
		s.fail(w, r, err)
		return t, false, nil
	}
	q, err := streamParameters.query(r)
	if err != nil {
		s.fail(w, r, err)
		return t, false, nil
	}
	t.Name = progress.Topic{Kind: progress.TopicWorkflow, Name: id}
	if t.Want, err = want(position(r), q.Get("run"), q.Get("mode")); err != nil {
		s.fail(w, r, err)
		return t, false, nil
	}
	if place = s.admit(w); place == nil {
		return t, false, nil
	}
	return t, s.atEnd(r.Context(), t), place
}

// atEnd reports whether the viewer has everything already. That needs the
// store; while it is away, the stream opens and waits like any other.
func (s *Server) atEnd(ctx context.Context, t sse.Topic) bool {
	if t.Want.After == nil || t.Want.After.IsZero() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.Config.OpenWait)
	defer cancel()
	h := s.hub.Open(ctx, t.Name)
	defer h.Release()
	return h.AtEnd(ctx, *t.Want.After, t.Want.Run)
}

// streamOne answers GET /v1/workflows/{id}/stream.
func (s *Server) streamOne(w http.ResponseWriter, r *http.Request) {
	t, atEnd, place := s.begin(w, r)
	if place == nil {
		return
	}
	defer place.Release()
	if atEnd {
		// This, and nothing else, has EventSource stop.
		w.WriteHeader(http.StatusNoContent)
		return
	}
	s.serveSSE(w, r, place, sse.Options{Topics: []sse.Topic{t}})
}

func (s *Server) serveSSE(w http.ResponseWriter, r *http.Request, place *hub.Place, o sse.Options) {
	o.WriteDeadline, o.Retry, o.DrainSpread = s.o.Config.WriteDeadline, s.o.Config.Retry, s.o.Config.Drain
	if err := sse.Serve(w, r, place, o); err != nil {
		s.fail(w, r, err)
	}
}

// streamMany answers GET /v1/stream.
func (s *Server) streamMany(w http.ResponseWriter, r *http.Request) {
	q, err := manyParameters.query(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	workflows, tags := distinct(q["workflow"]), distinct(q["tag"])
	n := len(workflows) + len(tags)
	if len(workflows) == 0 {
		err = forTag(q.Get("after"), "", q.Get("mode"))
	}
	switch {
	case err != nil:
		s.fail(w, r, err)
		return
	case n == 0:
		s.fail(w, r, invalid("name at least one topic, with workflow= or tag="))
		return
	case n > s.o.Config.MaxTopics:
		s.fail(w, r, invalid("%d topics are too many for one connection; it takes %d", n, s.o.Config.MaxTopics))
		return
	}
	text := position(r)
	positions := strings.Split(text, ",")
	o := sse.Options{Many: true, NoIDs: len(workflows) > maxComposite}
	for i, id := range workflows {
		if err := progress.CheckWorkflowID(id); err != nil {
			s.fail(w, r, err)
			return
		}
		after := ""
		if len(positions) == len(workflows) {
			after = positions[i]
		} else if text != "" {
			after = text // no position of this request's: a gap says so
		}
		one, err := want(after, "", q.Get("mode"))
		if err != nil {
			s.fail(w, r, err)
			return
		}
		o.Topics = append(o.Topics, sse.Topic{Name: progress.Topic{Kind: progress.TopicWorkflow, Name: id}, Want: one})
	}
	for _, tag := range tags {
		if err := checkTag(tag); err != nil {
			s.fail(w, r, err)
			return
		}
		o.Topics = append(o.Topics, sse.Topic{Name: progress.Topic{Kind: progress.TopicTag, Name: tag}})
	}
	if place := s.admit(w); place != nil {
		defer place.Release()
		s.serveSSE(w, r, place, o)
	}
}

// checkTag reports a tag that no workflow can have.
func checkTag(tag string) error {
	if err := progress.CheckWorkflowID(tag); err != nil {
		return invalid("the tag is empty, longer than %d bytes, or not UTF-8", progress.MaxWorkflowIDBytes)
	}
	return nil
}

// distinct drops what comes again; the first place counts.
func distinct(list []string) []string {
	seen := make(map[string]bool, len(list))
	var out []string
	for _, one := range list {
		if !seen[one] {
			seen[one] = true
			out = append(out, one)
		}
	}
	return out
}

// socketOne answers GET /v1/workflows/{id}/ws.
func (s *Server) socketOne(w http.ResponseWriter, r *http.Request) {
	if !s.upgrade(w, r) {
		return
	}
	t, atEnd, place := s.begin(w, r)
	if place == nil {
		return
	}
	defer place.Release()
	s.serveWS(w, r, place, ws.Options{
		Quiet: atEnd, MaxMessage: 1 << 10,
		Begin: func(c *hub.Conn) {
			_ = c.Follow(t.Name, t.Want) // fails if it has ended meanwhile
		},
	})
}

func (s *Server) serveWS(w http.ResponseWriter, r *http.Request, place *hub.Place, o ws.Options) {
	o.WriteDeadline, o.Retry, o.DrainSpread = s.o.Config.WriteDeadline, s.o.Config.Retry, s.o.Config.Drain
	if err := ws.Serve(w, r, place, o); err != nil {
		s.o.Logger.Debug("handshake failed", "error", err)
	}
}

// upgrade answers a request that is no WebSocket handshake, or not one for
// this page, and returns false.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) bool {
	status, detail := 0, ""
	switch {
	case !hasToken(r.Header, "Upgrade", "websocket") || !hasToken(r.Header, "Connection", "upgrade"):
		status, detail = http.StatusUpgradeRequired, "This is a WebSocket; connect with ws:// or wss://, or use the /stream beside it."
	case r.ProtoMajor != 1:
		status, detail = http.StatusUpgradeRequired, "WebSockets are served over HTTP/1.1 only."
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		w.Header().Set("Sec-WebSocket-Version", "13")
		status, detail = http.StatusUpgradeRequired, "Only version 13 of the WebSocket protocol is spoken here."
	case r.Header.Get("Sec-WebSocket-Key") == "":
		status, detail = http.StatusBadRequest, "The handshake lacks Sec-WebSocket-Key."
	case !s.originMay(r):
		status, detail = http.StatusForbidden, "Pages of "+clip(r.Header.Get("Origin"))+" may not connect; add the origin to RUNCAST_ALLOWED_ORIGINS."
	default:
		return true
	}
	if status == http.StatusUpgradeRequired {
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
	}
	problem.Write(w, problem.Problem{Status: status, Detail: detail})
	return false
}

func hasToken(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for one := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(one), token) {
				return true
			}
		}
	}
	return false
}
