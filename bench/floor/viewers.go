package main

import (
	"bytes"
	"encoding/binary"
	"sync"
	"syscall"
)

// viewers are the sockets, by form.
type viewers struct {
	mu      sync.Mutex
	sse, ws []int
}

func (v *viewers) add(fd int, ws bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if ws {
		v.ws = append(v.ws, fd)
	} else {
		v.sse = append(v.sse, fd)
	}
}

// deliver encodes the event once for each form and writes it to all.
func (v *viewers) deliver(event []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.sse) > 0 {
		v.sse = writeAll(v.sse, sseFrame(event))
	}
	if len(v.ws) > 0 {
		v.ws = writeAll(v.ws, wsFrame(event))
	}
}

// writeAll makes one write(2) per viewer, and returns those that are left. A
// socket that is full loses the frame; one that took half of it is closed.
func writeAll(fds []int, frame []byte) []int {
	left := fds[:0]
	for _, fd := range fds {
		n, err := syscall.Write(fd, frame)
		if err == nil && n == len(frame) || err == syscall.EAGAIN {
			left = append(left, fd)
		} else {
			_ = syscall.Close(fd)
		}
	}
	return left
}

// position returns the event's epoch, seq and check as they stand in it.
func position(event []byte) (epoch, seq, check []byte) {
	_, rest, _ := bytes.Cut(event, []byte(`{"epoch":`))
	epoch, rest, _ = bytes.Cut(rest, []byte(`,"seq":`))
	seq, rest, _ = bytes.Cut(rest, []byte(`,"check":"`))
	check, _, _ = bytes.Cut(rest, []byte(`"`))
	return epoch, seq, check
}

func appendID(b, event []byte) []byte {
	epoch, seq, check := position(event)
	b = append(append(b, epoch...), '-')
	b = append(append(b, seq...), '-')
	return append(b, check...)
}

func sseFrame(event []byte) []byte {
	b := appendID([]byte("event: update\nid: "), event)
	b = append(b, "\ndata: "...)
	b = append(b, event...)
	return append(b, "\n\n"...)
}

// wsFrame returns one unmasked, final text frame (RFC 6455, section 5.2).
func wsFrame(event []byte) []byte {
	m := appendID([]byte(`{"event":"update","id":"`), event)
	m = append(m, `","data":`...)
	m = append(append(m, event...), '}')
	b := []byte{0x81}
	switch n := len(m); {
	case n <= 125:
		b = append(b, byte(n))
	case n <= 0xFFFF:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, m...)
}
