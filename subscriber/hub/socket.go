package hub

import (
	"net"
	"sync"
	"syscall"
	"time"
)

// Socket is the write side of a hijacked connection. On plain TCP it can
// write without blocking and without a goroutine.
//
// TryWrite and Write are called by one goroutine at a time: the owner of the
// connection's write side.
type Socket struct {
	conn     net.Conn
	raw      syscall.RawConn // nil unless plain TCP
	attempt  attempt
	deadline time.Duration
	close    sync.Once
}

// maxUnsent bounds what the kernel keeps of a slow viewer's stream beyond
// what is on its way, in bytes. Without it that is tcp_wmem's maximum, 4 MiB:
// memory that nobody here counts, and a viewer that learns of its gap late.
const maxUnsent = 128 << 10

// chunk is how much a connection that is not direct takes under one deadline,
// so that one that is slow but alive is not taken for stuck.
const chunk = 4 << 10

// NewSocket takes a connection. Deadline is how long a write waits for a
// socket that takes nothing.
func NewSocket(conn net.Conn, deadline time.Duration) *Socket {
	s := &Socket{conn: conn, deadline: deadline}
	if tcp, ok := conn.(*net.TCPConn); ok && canWriteRaw {
		if raw, err := tcp.SyscallConn(); err == nil {
			s.raw = raw
			s.attempt.init()
			tune(raw, deadline)
		}
	}
	return s
}

// Direct reports whether TryWrite may be used.
func (s *Socket) Direct() bool { return s.raw != nil }

// TryWrite writes what the socket takes at once.
func (s *Socket) TryWrite(p []byte) (int, error) { return s.attempt.write(s.raw, p, false) }

// Write writes all of p, or returns how much of it. The deadline begins anew
// whenever the socket, or its peer, took something.
func (s *Socket) Write(p []byte) (written int, err error) {
	// A deadline that stays would fail the next TryWrite, however late.
	defer func() { _ = s.conn.SetWriteDeadline(time.Time{}) }() // it is closed if it fails
	for written < len(p) {
		if err := s.conn.SetWriteDeadline(time.Now().Add(s.deadline)); err != nil {
			return written, err
		}
		var n int
		rest := p[written:]
		if s.raw != nil {
			before := queued(s.raw)
			n, err = s.attempt.write(s.raw, rest, true)
			if isTimeout(err) && queued(s.raw) < before {
				// The kernel says that there is room only once a good part of
				// its buffer is free. Meanwhile the peer took something.
				err = nil
			}
		} else {
			n, err = s.conn.Write(rest[:min(len(rest), chunk)])
		}
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// CloseWrite says that nothing more comes, where the connection has halves;
// what is unread on this side must not take the last bytes away with a reset.
func (s *Socket) CloseWrite() {
	if half, ok := s.conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // the reader ends in any case
	}
}

// Abort closes the connection without a word: TLS would wait for a full socket
// to take its own.
func (s *Socket) Abort() {
	if secure, ok := s.conn.(interface{ NetConn() net.Conn }); ok {
		_ = secure.NetConn().Close() // nobody is left to tell
	}
	s.Close()
}

// Close closes the connection; a second time does nothing.
func (s *Socket) Close() {
	s.close.Do(func() { _ = s.conn.Close() }) // nobody is left to tell
}
