package hub

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// fill writes until the socket takes nothing more, and returns how much.
func fill(t testing.TB, s *Socket) (total int) {
	t.Helper()
	p := make([]byte, 64<<10)
	for {
		n, err := s.TryWrite(p)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return total
		}
		total += n
	}
}

// A socket that was full once and has recovered is like any other, however
// much later the next event comes.
func TestSocketRecovers(t *testing.T) {
	const deadline = 200 * time.Millisecond
	conn, peer := tcpPair(t)
	s := NewSocket(conn, deadline)
	fill(t, s)
	go func() { _, _ = io.Copy(io.Discard, peer) }()
	if n, err := s.Write(make([]byte, 1<<20)); err != nil || n != 1<<20 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	time.Sleep(2 * deadline) // nothing happens: that is the point
	if n, err := s.TryWrite([]byte("x")); n != 1 || err != nil {
		t.Errorf("after the deadline: %d, %v", n, err)
	}
}

// After a write has run into its deadline, a last word can still be tried.
func TestSocketAfterItsDeadline(t *testing.T) {
	conn, peer := tcpPair(t)
	s := NewSocket(conn, 50*time.Millisecond)
	fill(t, s)
	if _, err := s.Write([]byte("more")); !isTimeout(err) {
		t.Fatalf("got %v", err)
	}
	if n, err := s.TryWrite([]byte("last")); n != 0 || err != nil {
		t.Errorf("while it is full: %d, %v", n, err)
	}
	go func() { _, _ = io.Copy(io.Discard, peer) }()
	waitUntil(t, "room", func() bool {
		n, err := s.TryWrite([]byte("last"))
		return n == 4 && err == nil
	})
}

// The kernel keeps little of what a viewer does not take.
func TestUnsentIsBounded(t *testing.T) {
	conn, peer := tcpPair(t)
	_ = peer.SetReadBuffer(16 << 10)
	if total := fill(t, NewSocket(conn, time.Second)); total > 4*maxUnsent {
		t.Errorf("the kernel took %d bytes for a viewer that takes nothing", total)
	}
}

func TestTryWriteAllocatesNothing(t *testing.T) {
	conn, peer := tcpPair(t)
	go func() { _, _ = io.Copy(io.Discard, peer) }()
	s := NewSocket(conn, time.Second)
	frame := make([]byte, 200)
	if n := testing.AllocsPerRun(100, func() { _, _ = s.TryWrite(frame) }); n > 0 {
		t.Errorf("%v allocations for each write", n)
	}
}

// A socket that is full, closed or has lost its peer says so the same way,
// whether the scheduler knows of the write or not.
func TestWriteQuickOrNot(t *testing.T) {
	for _, quick := range []bool{true, false} {
		conn, peer := tcpPair(t)
		raw, err := conn.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		attempt := func(p []byte) (n int, err error) {
			if failed := raw.Control(func(fd uintptr) { n, err = write(fd, p, quick) }); failed != nil {
				return 0, failed
			}
			return n, err
		}
		if n, err := attempt([]byte("frame")); n != 5 || err != nil {
			t.Errorf("quick %t: %d, %v", quick, n, err)
		}
		for err == nil {
			_, err = attempt(make([]byte, 64<<10))
		}
		if err != syscall.EAGAIN {
			t.Errorf("quick %t: when full: %v", quick, err)
		}
		_ = peer.SetLinger(0) // what is unread goes with a reset
		_ = peer.Close()
		waitUntil(t, "reset", func() bool {
			_, err := attempt([]byte("frame"))
			return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
		})
		_ = conn.Close()
		if _, err := attempt([]byte("frame")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("quick %t: when closed: %v", quick, err)
		}
	}
}

// BenchmarkWrite is one small frame to a socket whose peer takes it: as every
// delivery goes, as one in some does, and as the poller would have it.
func BenchmarkWrite(b *testing.B) {
	conn, peer := tcpPair(b)
	go func() { _, _ = io.Copy(io.Discard, peer) }()
	s := NewSocket(conn, time.Second)
	frame := make([]byte, 400)
	raw := func(quick bool) func() error {
		a := new(attempt)
		a.once = func(fd uintptr) { a.n, a.err = write(fd, a.p, quick) }
		return func() error {
			_, err := a.write(s.raw, frame, false)
			return err
		}
	}
	for _, tt := range []struct {
		name  string
		write func() error
	}{
		{"quick", raw(true)},
		{"watched", raw(false)},
		{"poller", func() error { _, err := s.conn.Write(frame); return err }},
	} {
		b.Run(tt.name, func(b *testing.B) {
			for b.Loop() {
				if err := tt.write(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// waitUntil waits for a condition outside a bubble.
func waitUntil(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not %s", what)
		}
	}
}
