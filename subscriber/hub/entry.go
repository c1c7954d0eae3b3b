package hub

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/runcast/runcast/pkg/progress"
)

// entry is one event in a ring. What is not lazily encoded never changes.
type entry struct {
	pos progress.Position
	// data is the event's JSON: one line, valid UTF-8, valid JSON.
	data []byte
	// received is when the hub got it; zero for what was read later.
	received time.Time
	// closed says that the event is a closed one.
	closed bool
	// enc holds the update frame by encoding, nil until first used. Guarded
	// by the topic's mutex, as is meta.
	enc  [encodings][]byte
	meta *eventMeta
}

// size is what the entry holds, in bytes: the event, and its frames once they
// are made.
func (e *entry) size() int {
	n := len(e.data)
	for _, frame := range e.enc {
		n += len(frame)
	}
	return n
}

// eventMeta is what few viewers need to know of an event.
type eventMeta struct {
	Type  progress.EventType `json:"type"`
	RunID string             `json:"run_id"`
	Chain string             `json:"chain"`
}

func (e *entry) about() *eventMeta {
	if e.meta == nil {
		e.meta = new(eventMeta)
		_ = json.Unmarshal(e.data, e.meta) // newEntry saw that it is JSON
	}
	return e.meta
}

// newEntry reads an event from its wire form. It reports false for what is
// no event: not JSON, or without a position.
func newEntry(data []byte) (*entry, bool) {
	pos, ok := scanPosition(data)
	if !ok || !validJSON(data) {
		return nil, false
	}
	e := &entry{pos: pos, data: oneLine(data)}
	// The word may be in any string of the event; only a decoder knows.
	if bytes.Contains(data, []byte(`"closed"`)) {
		e.closed = e.about().Type == progress.TypeClosed
	}
	return e, true
}

// oneLine returns data in a form that neither SSE (lines) nor WebSocket
// (UTF-8) would break. Valid JSON has line ends between its tokens only.
func oneLine(data []byte) []byte {
	if bytes.IndexByte(data, '\n') >= 0 || bytes.IndexByte(data, '\r') >= 0 {
		data = bytes.Map(func(r rune) rune {
			if r == '\r' || r == '\n' {
				return ' '
			}
			return r
		}, data)
	}
	if !utf8.Valid(data) {
		data = bytes.ToValidUTF8(data, []byte("\uFFFD"))
	}
	return data
}

// The text around epoch, seq and check, as the append script writes it.
const (
	textEpoch = `{"epoch":`
	textSeq   = `,"seq":`
	textCheck = `,"check":"`
	textTail  = `",`
)

// cutHead splits the wire form into its position and its tail, which is what
// the check covers.
func cutHead(data []byte) (epoch, seq, check, tail []byte, ok bool) {
	rest, ok := bytes.CutPrefix(data, []byte(textEpoch))
	if !ok {
		return nil, nil, nil, nil, false
	}
	epoch, rest, ok1 := bytes.Cut(rest, []byte(textSeq))
	seq, rest, ok2 := bytes.Cut(rest, []byte(textCheck))
	check, tail, ok3 := bytes.Cut(rest, []byte(textTail))
	return epoch, seq, check, tail, ok1 && ok2 && ok3
}

// scanPosition reads the position of an event. The script's own form is read
// without a JSON decoder, since every event passes here.
func scanPosition(data []byte) (progress.Position, bool) {
	if epoch, seq, check, _, ok := cutHead(data); ok && len(check) == 8 {
		e, err1 := strconv.ParseInt(string(epoch), 10, 64)
		s, err2 := strconv.ParseInt(string(seq), 10, 64)
		if err1 == nil && err2 == nil && e > 0 && s > 0 {
			return progress.Position{Epoch: e, Seq: s, Check: string(check)}, true
		}
	}
	var form struct {
		Epoch int64  `json:"epoch"`
		Seq   int64  `json:"seq"`
		Check string `json:"check"`
	}
	if json.Unmarshal(data, &form) != nil || form.Epoch <= 0 || form.Seq <= 0 || len(form.Check) != 8 {
		return progress.Position{}, false
	}
	return progress.Position{Epoch: form.Epoch, Seq: form.Seq, Check: form.Check}, true
}

// follows reports whether the event whose wire form is data comes right
// after head: the next seq, the same epoch, a check that chains.
func follows(head progress.Position, pos progress.Position, data []byte) bool {
	prev := head.Check
	switch {
	case pos.Seq != head.Seq+1:
		return false
	case head.IsZero():
		prev = progress.FirstCheck
	case pos.Epoch != head.Epoch:
		return false
	}
	_, _, _, tail, ok := cutHead(data)
	return ok && progress.NextCheck(prev, tail) == pos.Check
}

// scanTime reads an event's time without a JSON decoder, for statistics only:
// it takes the first field of the name. Zero is none.
func scanTime(data []byte) time.Time {
	_, rest, _ := bytes.Cut(data, []byte(`"time":"`))
	text, _, _ := bytes.Cut(rest, []byte{'"'})
	at, err := time.Parse(time.RFC3339Nano, string(text))
	if err != nil {
		return time.Time{}
	}
	return at
}
