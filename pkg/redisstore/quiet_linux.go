package redisstore

import (
	"io"
	"net"
	"syscall"
	"unsafe"
)

// quietConn is a TCP connection that is read by system calls of which the
// scheduler is not told. It is for messages that come one at a time to a node
// that has nothing else to do: an ordinary system call would wake the runtime's
// thread that watches over those that block, which costs more than the reading.
// These do not block: the poller has said that there is something, or says so
// later. One reader at a time.
type quietConn struct {
	*net.TCPConn
	raw  syscall.RawConn
	read func(fd uintptr) bool // made once, since it would be allocated
	// What read works on.
	p   []byte
	n   int
	err error
}

// quiet returns a connection that is read quietly where that can be done.
func quiet(conn net.Conn) net.Conn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn // TLS, or a Unix socket
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return conn // it is closed, as the first read says
	}
	c := &quietConn{TCPConn: tcp, raw: raw}
	c.read = func(fd uintptr) bool {
		c.n, c.err = read(fd, c.p)
		return c.err != syscall.EAGAIN
	}
	return c
}

// Read implements net.Conn.
func (c *quietConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.p, c.n, c.err = p, 0, nil
	err := c.raw.Read(c.read) // waits in the poller, until the read deadline
	c.p = nil
	switch {
	case err != nil:
		return 0, err
	case c.err != nil:
		return 0, &net.OpError{Op: "read", Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: c.err}
	case c.n == 0:
		return 0, io.EOF
	}
	return c.n, nil
}

// read makes one read(2).
func read(fd uintptr, p []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch {
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN:
			return 0, syscall.EAGAIN // a constant, which allocates nothing
		case errno != 0:
			return 0, errno
		}
		return int(n), nil
	}
}
