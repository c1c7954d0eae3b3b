package subscriber

import (
	"net/http"
	"strings"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/subscriber/hub"
	"github.com/runcast/runcast/subscriber/sse"
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
	return wantIn(progress.ParsePosition, text, run, mode)
}

// wantIn is want for positions of another form.
func wantIn(parse func(string) (progress.Position, error), text, run, mode string) (hub.Want, error) {
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
	if text == "" {
		return w, nil
	}
	if pos, err := parse(text); err != nil {
		w.Bad, w.Text = true, clip(text)
	} else {
		w.After = &pos
	}
	return w, nil
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
	if place := s.streams.admit(w); place != nil {
		defer place.Release()
		s.streams.serveSSE(w, r, place, o)
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
