package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"syscall"
)

// viewers are the sockets, by the channel of their workflow.
type viewers struct {
	redis io.Writer

	mu     sync.Mutex
	topics map[string]*topic
}

// topic are the viewers of one workflow, by form. The mutex of all guards it.
type topic struct{ sse, ws []int }

// follow returns the viewers of a workflow. For the first one it asks Redis
// for the channel.
func (v *viewers) follow(workflow string) (*topic, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	channel := "workflow:{" + workflow + "}:updates"
	t := v.topics[channel]
	if t == nil {
		if _, err := fmt.Fprintf(v.redis, "*2\r\n$9\r\nSUBSCRIBE\r\n$%d\r\n%s\r\n", len(channel), channel); err != nil {
			return nil, fmt.Errorf("subscribe: %w", err)
		}
		t = new(topic)
		v.topics[channel] = t
	}
	return t, nil
}

func (v *viewers) add(t *topic, fd int, ws bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if ws {
		t.ws = append(t.ws, fd)
	} else {
		t.sse = append(t.sse, fd)
	}
}

// topic returns those who follow a channel.
func (v *viewers) topic(channel []byte) *topic {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.topics[string(channel)]
}

// deliver encodes the event once for each form and writes it to all.
func (v *viewers) deliver(t *topic, event []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(t.sse) > 0 {
		t.sse = writeAll(t.sse, sseFrame(event))
	}
	if len(t.ws) > 0 {
		t.ws = writeAll(t.ws, wsFrame(event))
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
