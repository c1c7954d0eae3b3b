package hub

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

// Encoding is the form in which a connection takes its frames. Frames of one
// topic in one encoding are made once and shared by all viewers.
type Encoding uint8

const (
	// SSE: event, id and data lines.
	SSE Encoding = iota
	// SSEMany: the same without the id, which the connection puts in front
	// since it is made of all its positions; data names the topic.
	SSEMany
	// WebSocket: one unmasked, unfragmented text frame per message
	// {"event","id","data"}.
	WebSocket
	// WebSocketMany: the same with "topic" in front.
	WebSocketMany

	encodings = iota
)

// many reports whether frames name their topic.
func (e Encoding) many() bool { return e == SSEMany || e == WebSocketMany }

// Kind is a frame's kind, as the client sees it.
type Kind string

// The kinds of frames.
const (
	KindSnapshot Kind = "snapshot"
	KindUpdate   Kind = "update"
	KindGap      Kind = "gap"
	KindEnd      Kind = "end"
)

// encodeFrame returns one frame. A nil position leaves the id out: the frame
// does not move the client's position. Data is one line of JSON.
func encodeFrame(enc Encoding, t progress.Topic, kind Kind, pos *progress.Position, data []byte) []byte {
	switch enc {
	case SSE, SSEMany:
		b := make([]byte, 0, len(data)+96+len(t.Name))
		b = append(b, "event: "...)
		b = append(b, kind...)
		if pos != nil && enc == SSE {
			b = append(b, "\nid: "...)
			b = pos.Append(b)
		}
		b = append(b, "\ndata: "...)
		if enc == SSEMany {
			b = append(b, `{"topic":`...)
			b = appendTopic(b, t)
			if pos != nil {
				b = append(b, `,"id":"`...)
				b = pos.Append(b)
				b = append(b, '"')
			}
			b = append(b, `,"data":`...)
			b = append(b, data...)
			b = append(b, '}')
		} else {
			b = append(b, data...)
		}
		return append(b, "\n\n"...)
	default:
		// In front there is room for the longest header: the length is known
		// only afterwards, and one allocation is enough.
		b := make([]byte, maxHeader, maxHeader+len(data)+96+len(t.Name))
		b = append(b, '{')
		if enc == WebSocketMany {
			b = append(b, `"topic":`...)
			b = appendTopic(b, t)
			b = append(b, ',')
		}
		b = append(b, `"event":"`...)
		b = append(b, kind...)
		b = append(b, '"')
		if pos != nil {
			b = append(b, `,"id":"`...)
			b = pos.Append(b)
			b = append(b, '"')
		}
		b = append(b, `,"data":`...)
		b = append(b, data...)
		b = append(b, '}')
		return putHeader(b)
	}
}

func appendTopic(b []byte, t progress.Topic) []byte {
	if t.Kind == progress.TopicTag {
		b = append(b, `{"tag":`...)
	} else {
		b = append(b, `{"workflow":`...)
	}
	return append(append(b, marshal(t.Name)...), '}')
}

// maxHeader is the longest header of a WebSocket frame from a server.
const maxHeader = 10

// TextFrame returns the WebSocket frame (RFC 6455, section 5.2) of one text
// message from a server: final, unmasked.
func TextFrame(message []byte) []byte {
	return putHeader(append(make([]byte, maxHeader, maxHeader+len(message)), message...))
}

// putHeader puts the header in front of a message that begins at maxHeader, and
// returns the frame.
func putHeader(b []byte) []byte {
	const finText = 0x80 | 0x1
	switch n := len(b) - maxHeader; {
	case n <= 125:
		b = b[maxHeader-2:]
		b[1] = byte(n)
	case n <= 0xFFFF:
		b = b[maxHeader-4:]
		b[1] = 126
		binary.BigEndian.PutUint16(b[2:], uint16(n))
	default:
		b[1] = 127
		binary.BigEndian.PutUint64(b[2:], uint64(n))
	}
	b[0] = finText
	return b
}

// marshal encodes a value of the hub's own making, which cannot fail, on one
// line and without escapes that only HTML needs.
func marshal(v any) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // a programming error: an unencodable type
	}
	return oneLine(bytes.TrimSuffix(buf.Bytes(), []byte("\n")))
}

// Gap is the data of a gap frame: what lies between From and To was, or may
// have been, missed. A snapshot at To or later follows at once.
type Gap struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Reason Reason `json:"reason"`
	// Since and Detail are of a [Notice].
	Since  time.Time `json:"since,omitzero"`
	Detail string    `json:"detail,omitempty"`
}

// Reason says why there is a gap.
type Reason string

// The reasons.
const (
	// ReasonTrimmed: the stream no longer holds what follows the position,
	// or holds more than a node reads for a resume.
	ReasonTrimmed Reason = "trimmed"
	// ReasonForeign: the position is of another epoch.
	ReasonForeign Reason = "foreign"
	// ReasonForked: the stream has another event under that seq.
	ReasonForked Reason = "forked"
	// ReasonFuture: the stream does not reach the position.
	ReasonFuture Reason = "future"
	// ReasonBadPosition: what the client sent is no position.
	ReasonBadPosition Reason = "bad_position"
	// ReasonSlow: the viewer fell behind what the node holds.
	ReasonSlow Reason = "slow"
	// ReasonLost: the store lost events that this viewer had already seen.
	ReasonLost Reason = "lost"
	// ReasonStale: nothing new can be learned for now; see [Notice].
	ReasonStale Reason = "stale"
	// ReasonDegraded: the workflow is followed in a lesser way; see [Notice].
	ReasonDegraded Reason = "degraded"
)

// Reasons lists all of them, for metrics that show zeros too.
var Reasons = []Reason{
	ReasonTrimmed, ReasonForeign, ReasonForked, ReasonFuture, ReasonBadPosition, ReasonSlow, ReasonLost,
	ReasonStale, ReasonDegraded,
}
