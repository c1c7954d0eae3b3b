package redisstore

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pair returns both ends of a TCP connection.
func pair(t testing.TB) (ours, peer *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialed, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = dialed.Close(), accepted.Close() })
	return dialed.(*net.TCPConn), accepted.(*net.TCPConn)
}

// waits returns once somebody waits in the poller for a quiet connection.
func waits(t *testing.T) {
	t.Helper()
	all := make([]byte, 1<<20)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		for one := range strings.SplitSeq(string(all[:runtime.Stack(all, true)]), "\n\n") {
			if strings.Contains(one, "[IO wait") && strings.Contains(one, "(*quietConn).Read(") {
				return
			}
		}
	}
	t.Error("nobody waits")
}

// A connection that is read quietly is one like any other: it waits, until its
// deadline, and it ends as the peer or its owner ends it.
func TestQuietConn(t *testing.T) {
	open := func(t *testing.T) (c net.Conn, peer *net.TCPConn) {
		ours, peer := pair(t)
		c = quiet(ours)
		if _, ok := c.(*quietConn); !ok {
			t.Fatalf("%T", c)
		}
		return c, peer
	}
	buf := make([]byte, 8)
	t.Run("what comes later, in pieces", func(t *testing.T) {
		c, peer := open(t)
		go func() {
			waits(t)
			_, _ = peer.Write([]byte("over eight"))
			_ = peer.CloseWrite()
		}()
		all, err := io.ReadAll(c)
		if string(all) != "over eight" || err != nil {
			t.Errorf("%q, %v", all, err)
		}
		if n, err := c.Read(nil); n != 0 || err != nil {
			t.Errorf("nothing: %d, %v", n, err)
		}
	})
	t.Run("deadline", func(t *testing.T) {
		c, peer := open(t)
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, err := c.Read(buf)
		timeout, ok := errors.AsType[net.Error](err)
		if !ok || !timeout.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v", err)
		}
		_ = c.SetReadDeadline(time.Time{})
		_, _ = peer.Write([]byte("x"))
		if n, err := c.Read(buf); n != 1 || err != nil {
			t.Errorf("afterwards: %d, %v", n, err)
		}
	})
	t.Run("reset", func(t *testing.T) {
		c, peer := open(t)
		_ = peer.SetLinger(0)
		_ = peer.Close()
		if _, err := c.Read(buf); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%v", err)
		}
	})
	t.Run("closed while it waits", func(t *testing.T) {
		c, _ := open(t)
		ended := make(chan error)
		go func() {
			_, err := c.Read(buf)
			ended <- err
		}()
		waits(t)
		_ = c.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
	})
	t.Run("no TCP", func(t *testing.T) {
		ours, peer := net.Pipe()
		defer ours.Close()
		defer peer.Close()
		if quiet(ours) != ours {
			t.Error("it is wrapped")
		}
	})
}

func TestQuietReadAllocatesNothing(t *testing.T) {
	ours, peer := pair(t)
	c := quiet(ours)
	buf := make([]byte, 64)
	if n := testing.AllocsPerRun(100, func() {
		_, _ = peer.Write(buf)
		_, _ = c.Read(buf)
	}); n > 0 {
		t.Errorf("%v allocations for each read", n)
	}
}

// BenchmarkRead has a message come now and then to a process that has nothing
// else to do, from another process: what the time on the CPU is for each.
func BenchmarkRead(b *testing.B) {
	for _, tt := range []struct {
		name string
		wrap func(net.Conn) net.Conn
	}{{"quiet", quiet}, {"ordinary", func(c net.Conn) net.Conn { return c }}} {
		b.Run(tt.name, func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			sender := exec.Command(os.Args[0], "-test.run=^TestSendNowAndThen$")
			sender.Env = append(os.Environ(), sendTo+"="+l.Addr().String())
			if err := sender.Start(); err != nil {
				b.Fatal(err)
			}
			defer func() { _ = sender.Wait() }() // it ends with the connection
			accepted, err := l.Accept()
			if err != nil {
				b.Fatal(err)
			}
			defer accepted.Close()
			c, buf := tt.wrap(accepted), make([]byte, 512)
			before := spent(b)
			for b.Loop() {
				if _, err := c.Read(buf); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(spent(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// sendTo names the address for TestSendNowAndThen.
const sendTo = "TEST_SEND_TO"

// TestSendNowAndThen is the other process of BenchmarkRead; by itself it does
// nothing.
func TestSendNowAndThen(t *testing.T) {
	addr := os.Getenv(sendTo)
	if addr == "" {
		return
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for pause := (syscall.Timespec{Nsec: 300_000}); ; {
		if _, err := c.Write(make([]byte, 400)); err != nil {
			return // the benchmark is over
		}
		_ = syscall.Nanosleep(&pause, nil)
	}
}

// spent returns this process's time on the CPU.
func spent(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
