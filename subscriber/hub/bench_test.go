package hub

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

func BenchmarkEncode(b *testing.B) {
	data := newWire().next()
	pos := progress.Position{Epoch: 1767225600000, Seq: 7, Check: "3f2a9c01"}
	for enc, name := range map[Encoding]string{SSE: "SSE", SSEMany: "SSEMany", WebSocket: "WebSocket", WebSocketMany: "WebSocketMany"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				encodeFrame(enc, workflow("order-42"), KindUpdate, &pos, data)
			}
		})
	}
}

// BenchmarkRing has one published event read, compared and put into a ring
// that is full, so that one is folded and leaves.
func BenchmarkRing(b *testing.B) {
	s := newStage(b)
	for range 2 * s.top.ring.maxLen {
		s.top.accept(message{data: s.wire.next()})
	}
	b.ReportAllocs()
	for b.Loop() {
		s.top.accept(message{data: s.wire.next()})
	}
}

// BenchmarkEntry reads one published event: its position, whether it is valid
// and of one line, whether it follows the one before.
func BenchmarkEntry(b *testing.B) {
	w := newWire()
	w.tail = `"workflow_id":"bench-1","run_id":"6c1f0a52-3f57-4b0e-9d3e-5b2f8c7a1e90","chain":"6c1f0a52-3f57-4b0e-9d3e-5b2f8c7a1e90",` +
		`"type":"progress","time":"2026-01-02T03:04:05.123456789Z","percent":50,"current":7,"total":1000000,"message":"packing the boxes"}`
	data := w.next()
	b.ReportAllocs()
	for b.Loop() {
		e, ok := newEntry(data)
		if !ok || !follows(progress.Position{}, e.pos, data) {
			b.Fatal("it is not taken")
		}
	}
}

// BenchmarkAttach has a viewer come to a topic that is there, and go.
func BenchmarkAttach(b *testing.B) {
	for _, tt := range []struct {
		name   string
		want   func(s *stage) Want
		frames int // for each viewer
	}{
		{"new", func(*stage) Want { return Want{} }, 1},
		{"resume", func(s *stage) Want { return after(s.top.ring.entries[len(s.top.ring.entries)-101].pos) }, 100},
	} {
		b.Run(tt.name, func(b *testing.B) {
			s := newStage(b)
			for range s.top.ring.maxLen {
				s.top.accept(message{data: s.wire.next()})
			}
			// A snapshot waits for a reading once much has come since the last
			// one, and nobody reads here: it has just been read.
			s.top.ring.unread = 0
			s.hub.topics[s.top.name] = s.top
			s.top.refs++ // it does not end with its last viewer
			want := tt.want(s)
			b.ReportAllocs()
			for b.Loop() {
				c, err := connect(s.hub, &discard{})
				if err != nil {
					b.Fatal(err)
				}
				if err := c.Follow(s.top.name, want); err != nil {
					b.Fatal(err)
				}
				c.Closed(CloseClient)
			}
			if got, want := s.hub.Metrics().Deliveries.Load(), int64(b.N*tt.frames); got != want {
				b.Errorf("%d frames for %d viewers, want %d", got, b.N, want)
			}
		})
	}
}

// BenchmarkDeliver has one event go to all viewers of a topic: to sockets
// that take everything and cost nothing, and to real ones.
func BenchmarkDeliver(b *testing.B) {
	report := func(b *testing.B, viewers int) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*viewers), "ns/delivery")
	}
	for _, viewers := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint("discard/", viewers), func(b *testing.B) {
			s := newStage(b)
			for range viewers {
				s.add(b, &discard{}, Want{})
			}
			for b.Loop() {
				s.deliver(1)
			}
			report(b, viewers)
		})
	}
	b.Run("loopback/100", func(b *testing.B) {
		if !canWriteRaw {
			b.Skip("writes that never block are had on Linux alone")
		}
		s := newStage(b)
		for range 100 {
			conn, peer := tcpPair(b)
			go func() { _, _ = io.Copy(io.Discard, peer) }()
			s.add(b, &socketPipe{sock: NewSocket(conn, time.Second)}, Want{})
		}
		for b.Loop() {
			s.deliver(1)
		}
		report(b, 100)
	})
}

// socketPipe is a transport on a real socket.
type socketPipe struct {
	pipe
	sock *Socket
}

func (p *socketPipe) Direct() bool                   { return true }
func (p *socketPipe) TryWrite(b []byte) (int, error) { return p.sock.TryWrite(b) }
func (p *socketPipe) Write(b []byte) (int, error)    { return p.sock.Write(b) }
