package viewers

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// maxStuck is how many viewers there may be that take nothing.
const maxStuck = 1000

// OpenStuck opens n more connections, in the clear, that ask for the stream
// of the first workflow and then take nothing at all. They are not counted
// among the viewers. One call.
func (v *Viewers) OpenStuck(n int) error {
	if n < 0 || n > maxStuck {
		return fmt.Errorf("%d viewers that take nothing; up to %d are possible", n, maxStuck)
	}
	w := v.newViewer(0, time.Now())
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open a socket: %w", err)
		}
		v.stuck = append(v.stuck, fd)
		// As little as there may be is on its way.
		const least = 2048
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, least); err != nil {
			return fmt.Errorf("make a socket small: %w", err)
		}
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		if err := unix.Connect(fd, &v.target); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		w.fd = fd
		if err := w.send(v.head(&w)); err != nil {
			return fmt.Errorf("send the request: %w", err)
		}
	}
	return nil
}
