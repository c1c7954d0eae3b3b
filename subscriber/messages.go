package subscriber

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/subscriber/hub"
	"github.com/runcast/runcast/subscriber/ws"
)

// clientMessage is what a client says on the many-topic WebSocket.
type clientMessage struct {
	// Type is subscribe or unsubscribe.
	Type string `json:"type"`
	// Workflow or Tag names the topic.
	Workflow string `json:"workflow"`
	Tag      string `json:"tag"`
	// After, Run and Mode are as in the query of a single stream.
	After string `json:"after"`
	Run   string `json:"run"`
	Mode  string `json:"mode"`
}

// socketMany answers GET /v1/ws.
func (s *Server) socketMany(w http.ResponseWriter, r *http.Request) {
	if !s.streams.upgrade(w, r) {
		return
	}
	q, err := socketParameters.query(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if len(q["workflow"]) == 0 {
		err = forTag("", "", q.Get("mode"))
	}
	var first []clientMessage
	for _, id := range distinct(q["workflow"]) {
		first = append(first, clientMessage{Type: "subscribe", Workflow: id, Mode: q.Get("mode")})
	}
	for _, tag := range distinct(q["tag"]) {
		first = append(first, clientMessage{Type: "subscribe", Tag: tag})
	}
	if len(first) > s.o.Config.MaxTopics {
		s.fail(w, r, invalid("%d topics are too many for one connection; it takes %d", len(first), s.o.Config.MaxTopics))
		return
	}
	for i := 0; i < len(first) && err == nil; i++ {
		_, _, err = first[i].topic()
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	place := s.streams.admit(w)
	if place == nil {
		return
	}
	defer place.Release()
	s.streams.serveWS(w, r, place, ws.Options{
		Many: true, MaxMessage: maxMessage,
		Begin: func(c *hub.Conn) {
			for i := range first {
				_ = s.apply(c, &first[i]) // fails if it has ended meanwhile
			}
		},
		Message: s.message,
	})
}

// message takes one message of a client. What it got wrong is answered with
// an error frame; it does not cost the connection.
func (s *Server) message(c *hub.Conn, data []byte) error {
	var m clientMessage
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	err := dec.Decode(&m)
	switch {
	case err != nil:
		err = invalid("the message is not understood: %v", err)
	case len(bytes.TrimSpace(data[dec.InputOffset():])) > 0:
		err = invalid("something follows the object; send one message each")
	default:
		err = s.apply(c, &m)
	}
	if err == nil {
		return nil
	}
	answer, err := json.Marshal(map[string]any{
		"event": "error",
		"data":  map[string]any{"status": http.StatusBadRequest, "title": http.StatusText(http.StatusBadRequest), "detail": err.Error()},
	})
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	return c.Control(hub.TextFrame(answer))
}

// topic returns what the message is about.
func (m *clientMessage) topic() (progress.Topic, hub.Want, error) {
	switch {
	case m.Workflow != "" && m.Tag != "" || m.Workflow == "" && m.Tag == "":
		return progress.Topic{}, hub.Want{}, invalid("name one workflow or one tag")
	case m.Tag != "":
		t := progress.Topic{Kind: progress.TopicTag, Name: m.Tag}
		if err := checkTag(m.Tag); err != nil {
			return t, hub.Want{}, err
		}
		return t, hub.Want{}, forTag(m.After, m.Run, m.Mode)
	}
	t := progress.Topic{Kind: progress.TopicWorkflow, Name: m.Workflow}
	if err := progress.CheckWorkflowID(m.Workflow); err != nil {
		return t, hub.Want{}, err
	}
	w, err := want(m.After, m.Run, m.Mode)
	return t, w, err
}

func (s *Server) apply(c *hub.Conn, m *clientMessage) error {
	t, w, err := m.topic()
	if err != nil {
		return err
	}
	switch m.Type {
	case "subscribe":
		if !c.Follows(t) && c.Topics() >= s.o.Config.MaxTopics {
			return invalid("the connection follows %d topics already, as many as it may; unsubscribe from one first", c.Topics())
		}
		_ = c.Follow(t, w) // fails if it has ended meanwhile
	case "unsubscribe":
		if !c.Unfollow(t) {
			return invalid("the connection does not follow %q", clip(t.Name))
		}
	default:
		return invalid("unknown message type %q; use subscribe or unsubscribe", clip(m.Type))
	}
	return nil
}
