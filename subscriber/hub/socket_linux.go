package hub

import (
	"io"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const canWriteRaw = true

// attempt is a write(2) on a raw connection. It lives as long as its socket,
// since a function that is made for each write, and what it returns, would
// cost each delivery three allocations.
type attempt struct {
	p    []byte
	n    int
	err  error
	wait bool
	run  func(fd uintptr) bool
}

func (a *attempt) init() {
	a.run = func(fd uintptr) bool {
		a.n, a.err = write(int(fd), a.p)
		// Unless it is to wait, it is done also when the socket is full.
		return !a.wait || a.err != syscall.EAGAIN
	}
}

// write makes one attempt. With wait it waits until the socket takes
// something, or its deadline; without, it never blocks, and a full socket
// takes 0 bytes.
func (a *attempt) write(raw syscall.RawConn, p []byte, wait bool) (int, error) {
	a.p, a.n, a.err, a.wait = p, 0, nil, wait
	err := raw.Write(a.run)
	a.p = nil // the frame is not this socket's to keep
	if err != nil {
		return 0, err
	}
	if a.err == syscall.EAGAIN {
		return 0, nil
	}
	return a.n, a.err
}

func write(fd int, p []byte) (int, error) {
	for {
		n, err := syscall.Write(fd, p)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return 0, err
		case n == 0 && len(p) > 0:
			return 0, io.ErrUnexpectedEOF
		}
		return n, nil
	}
}

// queued returns how many bytes the peer has not acknowledged yet; 0 where the
// kernel does not tell.
func queued(raw syscall.RawConn) (n int) {
	_ = raw.Control(func(fd uintptr) {
		n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
	})
	return n
}

// tune has the kernel give up on a peer that acknowledges nothing (a dead one
// would else hold its small heartbeats in the buffer for a quarter of an hour
// before a write fails), and take no more than maxUnsent from a viewer's
// stream before that is sent. Where an option cannot be set, the kernel's own
// bound counts.
func tune(raw syscall.RawConn, deadline time.Duration) {
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int((deadline + 20*time.Second).Milliseconds()))
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxUnsent)
	})
}
