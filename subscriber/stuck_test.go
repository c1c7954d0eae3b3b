package subscriber_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/subscriber"
	"github.com/runcast/runcast/subscriber/hub"
)

// Two hundred viewers that take nothing cost a bounded number of goroutines
// and a bounded memory, however much comes for them.
func TestStuckViewersCostLittle(t *testing.T) {
	const viewers, ring = 200, 32
	for _, tt := range []struct {
		name       string
		transports []string
		// Bounds per viewer; the client's side is in them.
		goroutines, bytes int
	}{
		{"plain", []string{"sse", "ws"}, 2, 32 << 10},
		{"tls", []string{"sse+tls", "ws+tls", "sse+h2"}, 3, 128 << 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSlow(t, tt.transports[0], func(c *subscriber.Config) { c.RingLen, c.WriteDeadline = ring, time.Minute })
			goroutines, bytes := usage()
			for i := range viewers {
				openRaw(t, s.n, s.files, tt.transports[i%len(tt.transports)], "w")
			}
			// The ring is filled several times over.
			for range 10 {
				s.publish(16, 20_000)
			}
			g, b := usage()
			g, b = g-goroutines, b-bytes-ring*25_000
			t.Logf("a stuck viewer has %.1f goroutines and %d bytes", float64(g)/viewers, b/viewers)
			if g > viewers*tt.goroutines+20 {
				t.Errorf("%d goroutines for %d viewers", g, viewers)
			}
			if b > viewers*tt.bytes {
				t.Errorf("%d bytes for %d viewers", b, viewers)
			}
			s.onlySlow(0)
		})
	}
}

func usage() (goroutines, bytes int) {
	runtime.GC()
	runtime.GC() // what finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return runtime.NumGoroutine(), int(m.HeapAlloc + m.StackInuse)
}

// smallClient makes connections for which the kernel keeps little.
func smallClient(t testing.TB) *http.Client {
	transport := &http.Transport{DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
		return dialSmall(t, addr), nil
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// ping sends so many pings at once, each of which waits for its pong in a
// goroutine that the returned function ends.
func ping(conn *websocket.Conn, n int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var waiting sync.WaitGroup
	for range n {
		waiting.Go(func() { _ = conn.Ping(ctx) })
	}
	return func() { cancel(); waiting.Wait() }
}

// A client that sends pings while it takes nothing holds nobody up. Its
// pongs wait, and come whole between whole frames once it reads.
func TestPingsWhileFull(t *testing.T) {
	s := newSlow(t, "ws", func(c *subscriber.Config) { c.WriteDeadline = time.Minute })
	c := openWS(t, smallClient(t), s.n.url+"/v1/workflows/w/ws")
	s.fill()
	stop := ping(c.conn, 200)
	defer stop()
	s.fill() // the fast one gets every event meanwhile
	for seq := int64(1); seq <= s.last; {
		f, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		if f.Kind == "update" {
			if got := f.event(t).Seq; got != seq {
				t.Fatalf("got %d, want %d", got, seq)
			}
			seq++
		}
	}
	if err := func() error {
		done := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			err := c.conn.Ping(ctx)
			_, last := s.run.tryAppend(ctx, s.run.event(progress.TypeLog, nil)) // a frame, with which next returns
			done <- errors.Join(err, last)
		}()
		if _, err := c.next(); err != nil { // reads the pong on the way
			return err
		}
		return <-done
	}(); err != nil {
		t.Errorf("a ping after all that: %v", err)
	}
	s.onlySlow(0)
}

// More pings than are kept for a client that takes nothing end it.
func TestPingsBeyondTheBound(t *testing.T) {
	s := newSlow(t, "ws", func(c *subscriber.Config) { c.WriteDeadline = time.Minute })
	c := openWS(t, smallClient(t), s.n.url+"/v1/workflows/w/ws")
	s.fill()
	stop := ping(c.conn, 3000)
	defer stop()
	eventually(t, "closed", func() bool {
		s.publish(1, 10)
		return s.n.Hub().Metrics().Closes(hub.CloseControl) == 1
	})
	for _, reason := range hub.CloseReasons {
		if got := s.n.Hub().Metrics().Closes(reason); reason != hub.CloseControl && got != 0 {
			t.Errorf("%d were closed as %s", got, reason)
		}
	}
}

// On one HTTP/2 connection, a stream of which nothing is taken ends alone.
func TestStuckStreamBesideOthers(t *testing.T) {
	n, files := startFor(t, "sse+h2", func(c *subscriber.Config) { c.WriteDeadline, c.RingLen = 500*time.Millisecond, 16 })
	client := secureClient(t, files.Client, 2)
	client.Transport.(*http.Transport).HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}
	stuck, fast := openSSE(t, client, n.url+"/v1/workflows/w/stream"), openSSE(t, client, n.url+"/v1/workflows/w/stream")
	expect(t, fast, "snapshot")
	s := &slow{raw: &raw{t: t}, n: n, fast: fast, run: newRun(t, n.store, "w", "run")}
	eventually(t, "closed", func() bool {
		s.publish(1, 20_000)
		return n.Hub().Metrics().Closes(hub.CloseSlow) == 1
	})
	for {
		if _, err := stuck.next(); err != nil {
			break
		}
	}
	s.publish(5, 1000)
	s.onlySlow(1)
}

// An HTTP/2 connection whose socket takes nothing is cut, though the client
// has given room for everything.
func TestStuckHTTP2Socket(t *testing.T) {
	s := newSlow(t, "sse+tls", func(c *subscriber.Config) { c.WriteDeadline, c.RingLen = 500*time.Millisecond, 16 })
	s.close()
	eventually(t, "gone", func() bool { s.publish(1, 10); return s.n.Hub().Conns("") == 1 })
	before := s.n.Hub().Metrics().Closes(hub.CloseSlow)
	openStuckHTTP2(t, s)
	eventually(t, "followed", func() bool { return s.n.Hub().Conns("") == 2 })
	eventually(t, "cut", func() bool { s.publish(1, 20_000); return s.n.Hub().Conns("") == 1 })
	if got := s.n.Hub().Metrics().Closes(hub.CloseSlow); got != before+1 {
		t.Errorf("%d were closed as slow", got-before)
	}
}

// Viewers that take nothing do not hold up a node that stops.
func TestStopWithStuckViewers(t *testing.T) {
	for _, all := range [][]string{{"sse", "ws"}, {"sse+tls", "ws+tls", "sse+h2"}} {
		s := newSlow(t, all[0], func(c *subscriber.Config) { c.RingLen = 16 })
		for range 5 {
			for _, transport := range all {
				openRaw(t, s.n, s.files, transport, "w")
			}
		}
		if isSecure(all[0]) {
			openStuckHTTP2(t, s)
		}
		s.fill()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		begin := time.Now()
		if err := s.n.Stop(ctx); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took > 3*time.Second {
			t.Errorf("%v: it took %v", all, took)
		}
	}
}

// openStuckHTTP2 opens an HTTP/2 connection that gives room for everything,
// and takes nothing from its socket.
func openStuckHTTP2(t testing.TB, s *slow) {
	t.Helper()
	config := s.files.Client.Clone()
	config.ServerName, config.NextProtos = "127.0.0.1", []string{"h2"}
	stream := openHTTP2(t, tls.Client(dialSmall(t, s.n.Addr()), config), "w", 1<<30)
	if err := stream.framer.WriteWindowUpdate(0, 1<<30); err != nil {
		t.Fatal(err)
	}
}
