package hub

import (
	"io"
	"syscall"
	"time"
)

const canWriteRaw = true

// tryWrite makes one attempt that does not block.
func tryWrite(raw syscall.RawConn, p []byte) (n int, err error) {
	outer := raw.Write(func(fd uintptr) bool {
		n, err = write(int(fd), p)
		return true // also when the socket is full: never wait here
	})
	if outer != nil {
		return 0, outer
	}
	if err == syscall.EAGAIN {
		return 0, nil
	}
	return n, err
}

// waitWrite waits until the socket takes something, or its deadline.
func waitWrite(raw syscall.RawConn, p []byte) (n int, err error) {
	outer := raw.Write(func(fd uintptr) bool {
		n, err = write(int(fd), p)
		return err != syscall.EAGAIN
	})
	if outer != nil {
		return 0, outer
	}
	return n, err
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

// setUserTimeout has the kernel give up on a peer that acknowledges nothing:
// a dead one would else hold its small heartbeats in the buffer for a quarter
// of an hour before a write fails.
func setUserTimeout(raw syscall.RawConn, deadline time.Duration) {
	const tcpUserTimeout = 18 // of linux/tcp.h
	_ = raw.Control(func(fd uintptr) {
		// Where it cannot be set, the kernel's own timeout counts.
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int((deadline + 20*time.Second).Milliseconds()))
	})
}
