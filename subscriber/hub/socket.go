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
	deadline time.Duration
	close    sync.Once
}

// NewSocket takes a connection. Deadline is how long a write waits for a
// socket that takes nothing.
func NewSocket(conn net.Conn, deadline time.Duration) *Socket {
	s := &Socket{conn: conn, deadline: deadline}
	if tcp, ok := conn.(*net.TCPConn); ok && canWriteRaw {
		if raw, err := tcp.SyscallConn(); err == nil {
			s.raw = raw
			setUserTimeout(raw, deadline)
		}
	}
	return s
}

// Direct reports whether TryWrite may be used.
func (s *Socket) Direct() bool { return s.raw != nil }

// TryWrite writes what the socket takes at once.
func (s *Socket) TryWrite(p []byte) (int, error) { return tryWrite(s.raw, p) }

// Write writes all of p, or returns how much of it. The deadline begins anew
// whenever the socket took something.
func (s *Socket) Write(p []byte) (written int, err error) {
	for written < len(p) {
		if err := s.conn.SetWriteDeadline(time.Now().Add(s.deadline)); err != nil {
			return written, err
		}
		var n int
		rest := p[written:]
		if s.raw != nil {
			n, err = waitWrite(s.raw, rest)
		} else {
			n, err = s.conn.Write(rest[:min(len(rest), 16<<10)])
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

// Close closes the connection; a second time does nothing.
func (s *Socket) Close() {
	s.close.Do(func() { _ = s.conn.Close() }) // nobody is left to tell
}
