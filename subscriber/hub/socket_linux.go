package hub

import (
	"io"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const canWriteRaw = true

// attempt is a write(2) on a raw connection. It lives as long as its socket,
// since a function that is made for each write, and what it returns, would
// cost each delivery three allocations.
type attempt struct {
	p   []byte
	n   int
	err error
	// once makes one attempt, again repeats it until the socket takes something.
	once  func(fd uintptr)
	again func(fd uintptr) bool
}

func (a *attempt) init() {
	a.once = func(fd uintptr) { a.n, a.err = write(fd, a.p, fd%watched != 0) }
	a.again = func(fd uintptr) bool {
		a.n, a.err = write(fd, a.p, false)
		return a.err != syscall.EAGAIN
	}
}

// write makes one attempt. With wait it waits until the socket takes
// something, or its deadline; without, it never blocks, and a full socket
// takes 0 bytes.
func (a *attempt) write(raw syscall.RawConn, p []byte, wait bool) (int, error) {
	a.p, a.n, a.err = p, 0, nil
	var err error
	if wait {
		err = raw.Write(a.again)
	} else {
		// Write would ask the poller first, about a deadline that is not set.
		// The write side has one owner, so no lock of its own is needed.
		err = raw.Control(a.once)
	}
	a.p = nil // the frame is not this socket's to keep
	if err != nil {
		return 0, err
	}
	if a.err == syscall.EAGAIN {
		return 0, nil
	}
	return a.n, a.err
}

// watched: of so many sockets one is written to by a system call that the
// scheduler knows of; see write.
const watched = 512

// write makes one write(2). A quick one is kept from the scheduler: else every
// event on a quiet node wakes the thread that watches over system calls, which
// then looks in every 20 µs and gives the processor away in the midst of a
// round, as if writes that cannot block might. One socket in some is written
// to openly, so that in a long round the thread is awake, and lets others run.
func write(fd uintptr, p []byte, quick bool) (n int, err error) {
	for {
		if quick {
			r, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
			switch {
			case errno == syscall.EAGAIN:
				return 0, syscall.EAGAIN // a constant, which allocates nothing
			case errno != 0:
				err = errno
			default:
				n, err = int(r), nil
			}
		} else {
			n, err = syscall.Write(int(fd), p)
		}
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
