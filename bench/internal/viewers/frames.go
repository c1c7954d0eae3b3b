package viewers

import (
	"bytes"
	"errors"
	"strconv"
	"time"
)

// kind is what a frame is to a viewer.
type kind uint8

const (
	other kind = iota // a comment, a retry line, a heartbeat
	update
	snapshot
	gap
	end
	ping    // WebSocket: wants a pong
	closing // WebSocket: the server says goodbye
)

// frame is one frame as it came.
type frame struct {
	kind kind
	// seq is the event's, or that of the snapshot's position.
	seq int64
	// data is the event, or the payload of a ping.
	data []byte
}

var errFrame = errors.New("the server sent what is no frame")

var (
	fieldEvent = []byte("event: ")
	fieldID    = []byte("id: ")
	fieldData  = []byte("data: ")
)

// sseFrame cuts the first frame off b. It returns 0 while that is not whole.
func sseFrame(b []byte) (n int, f frame, err error) {
	var id []byte
	for {
		i := bytes.IndexByte(b[n:], '\n')
		if i < 0 {
			return 0, frame{}, nil
		}
		line := b[n : n+i]
		n += i + 1
		switch {
		case len(line) == 0:
			f.seq, err = f.position(id)
			return n, f, err
		case bytes.HasPrefix(line, fieldData):
			f.data = line[len(fieldData):]
			if f.kind == other { // a server that names no events
				f.kind = update
			}
		case bytes.HasPrefix(line, fieldID):
			id = line[len(fieldID):]
		case bytes.HasPrefix(line, fieldEvent):
			f.kind = kindOf(line[len(fieldEvent):])
		}
	}
}

func kindOf(name []byte) kind {
	switch string(name) {
	case "update":
		return update
	case "snapshot":
		return snapshot
	case "gap":
		return gap
	case "end":
		return end
	}
	return other
}

// position returns the seq: of an event from its data, of a snapshot from the
// position id.
func (f *frame) position(id []byte) (int64, error) {
	switch f.kind {
	case update, end:
		return eventSeq(f.data)
	case snapshot:
		_, rest, _ := bytes.Cut(id, []byte("-"))
		seq, _, _ := bytes.Cut(rest, []byte("-"))
		n, err := strconv.ParseInt(string(seq), 10, 64)
		if err != nil {
			return 0, errFrame
		}
		return n, nil
	}
	return 0, nil
}

var (
	textEpoch = []byte(`{"epoch":`)
	textSeq   = []byte(`,"seq":`)
)

// eventSeq reads the seq of an event as the append script writes it.
func eventSeq(data []byte) (int64, error) {
	if !bytes.HasPrefix(data, textEpoch) {
		return 0, errFrame
	}
	rest := data[len(textEpoch):]
	for len(rest) > 0 && rest[0] >= '0' && rest[0] <= '9' {
		rest = rest[1:]
	}
	if !bytes.HasPrefix(rest, textSeq) {
		return 0, errFrame
	}
	var n int64
	digits := 0
	for _, c := range rest[len(textSeq):] {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int64(c-'0')
		digits++
	}
	if digits == 0 || digits > 18 {
		return 0, errFrame
	}
	return n, nil
}

var textTime = []byte(`"time":"`)

// eventTime reads when the event was written.
func eventTime(data []byte) (time.Time, error) {
	_, rest, _ := bytes.Cut(data, textTime)
	text, _, ok := bytes.Cut(rest, []byte(`"`))
	if !ok {
		return time.Time{}, errFrame
	}
	return time.Parse(time.RFC3339Nano, string(text))
}

// wsFrame cuts the first WebSocket frame off b. It returns 0 while that is
// not whole.
func wsFrame(b []byte) (n int, f frame, err error) {
	if len(b) < 2 {
		return 0, f, nil
	}
	if b[1]&0x80 != 0 {
		return 0, f, errFrame // masked, which only a client's frame is
	}
	size, head := int(b[1]), 2
	switch size {
	case 126:
		if len(b) < 4 {
			return 0, f, nil
		}
		size, head = int(b[2])<<8|int(b[3]), 4
	case 127:
		if len(b) < 10 {
			return 0, f, nil
		}
		size, head = 0, 10
		for _, c := range b[2:10] {
			size = size<<8 | int(c)
		}
	}
	if size < 0 || size > maxFrame {
		return 0, f, errFrame // beyond all measure
	}
	n = head + size
	if len(b) < n {
		return 0, f, nil
	}
	payload := b[head:n]
	switch b[0] {
	case 0x81: // the whole of a text
		f, err = message(payload)
		return n, f, err
	case 0x89:
		return n, frame{kind: ping, data: payload}, nil
	case 0x8A:
		return n, f, nil
	case 0x88:
		return n, frame{kind: closing, data: payload}, nil
	}
	return 0, f, errFrame
}

var (
	textEvent = []byte(`{"event":"`)
	textID    = []byte(`,"id":"`)
	textData  = []byte(`,"data":`)
)

// message reads {"event","id","data"}, or the bare event of a server that
// sends nothing around it.
func message(b []byte) (f frame, err error) {
	rest, ok := bytes.CutPrefix(b, textEvent)
	if !ok {
		f = frame{kind: update, data: b}
		f.seq, err = f.position(nil)
		return f, err
	}
	i := bytes.IndexByte(rest, '"')
	if i < 0 {
		return f, errFrame
	}
	f.kind, rest = kindOf(rest[:i]), rest[i+1:]
	var id []byte
	if bytes.HasPrefix(rest, textID) {
		rest = rest[len(textID):]
		if i = bytes.IndexByte(rest, '"'); i < 0 {
			return f, errFrame
		}
		id, rest = rest[:i], rest[i+1:]
	}
	if bytes.HasPrefix(rest, textData) {
		f.data = rest[len(textData):]
	}
	f.seq, err = f.position(id)
	return f, err
}

// pong returns the answer to a ping, masked with zeros as a client may.
func pong(payload []byte) []byte {
	payload = payload[:min(len(payload), 125)]
	b := []byte{0x8A, 0x80 | byte(len(payload)), 0, 0, 0, 0}
	return append(b, payload...)
}

// chunks takes apart an HTTP/1.1 body in chunks. The zero value is at its
// beginning.
type chunks struct {
	left   int // bytes of the chunk that are still to come
	size   int // of the next chunk, as far as it was read
	inSize bool
	ended  bool // the last chunk was there
}

// take returns the body that is in b; it is made in place.
func (c *chunks) take(b []byte) ([]byte, error) {
	out := b[:0]
	for len(b) > 0 {
		if c.left > 0 {
			n := min(c.left, len(b))
			out = append(out, b[:n]...)
			b, c.left = b[n:], c.left-n
			continue
		}
		ch := b[0]
		b = b[1:]
		switch {
		case ch == '\r' || ch == '\n' && !c.inSize:
		case ch == '\n':
			c.ended = c.size == 0
			c.left, c.size, c.inSize = c.size, 0, false
		default:
			digit, err := strconv.ParseUint(string(ch), 16, 8)
			if err != nil || c.size > maxFrame {
				return nil, errFrame
			}
			c.size, c.inSize = c.size<<4|int(digit), true
		}
	}
	return out, nil
}
