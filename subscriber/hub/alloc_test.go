package hub

import (
	"fmt"
	"testing"

	"github.com/runcast/runcast/pkg/progress"
)

// wire makes the events of one stream as they are published, with nothing
// else of a store.
type wire struct {
	pos  progress.Position
	tail string
}

func newWire() *wire {
	return &wire{
		pos:  progress.Position{Epoch: 7, Check: progress.FirstCheck},
		tail: `"workflow_id":"w","run_id":"run","chain":"run","type":"progress","time":"2026-01-02T03:04:05Z","percent":50,"message":"half of it"}`,
	}
}

func (w *wire) next() []byte {
	w.pos.Seq++
	w.pos.Check = progress.NextCheck(w.pos.Check, []byte(w.tail))
	return fmt.Appendf(nil, `{"epoch":%d,"seq":%d,"check":"%s",%s`, w.pos.Epoch, w.pos.Seq, w.pos.Check, w.tail)
}

// discard takes everything.
type discard struct {
	pipe
	enc Encoding
}

func (d *discard) Direct() bool                   { return true }
func (d *discard) Encoding() Encoding             { return d.enc }
func (d *discard) TryWrite(p []byte) (int, error) { return len(p), nil }

// stage is a topic with live viewers and no goroutine of its own.
type stage struct {
	hub  *Hub
	top  *topic
	wire *wire
}

func newStage(t testing.TB) *stage {
	h := New(newScript(), Options{})
	t.Cleanup(h.Stop)
	return &stage{hub: h, wire: newWire(), top: &topic{
		hub: h, name: workflow("w"), wake: make(chan struct{}, 1), ready: true, cancel: func() {},
		done: closedChan(), merged: make(chan struct{}), opened: closedChan(),
		ring: ring{maxLen: 256, maxBytes: 1 << 20},
	}}
}

// add makes a live viewer.
func (s *stage) add(t testing.TB, tr Transport, w Want) {
	t.Helper()
	c, err := connect(s.hub, tr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Closed(CloseClient) })
	v := s.top.add(c, w, c.enc.many())
	v.phase, v.pos, v.placed = live, s.wire.pos, true
	if s.wire.pos.Seq == 0 {
		v.pos = progress.Position{}
	}
	c.viewers = append(c.viewers, v)
	s.hub.mu.Lock()
	s.top.refs++
	s.hub.mu.Unlock()
}

// deliver has n events arrive together and writes to the viewers.
func (s *stage) deliver(n int) {
	for range n {
		s.top.accept(message{data: s.wire.next()})
	}
	list := append([]*viewer(nil), s.top.viewers...)
	if l := &s.top.latest; len(l.viewers) > 0 {
		l.pass++
		l.frames = [encodings]sharedFrame{}
		list = append(list, l.viewers...)
	}
	s.top.round(list)
}

// A delivery costs a topic allocations, and its viewers none: a thousand cost
// what a hundred do, but for the list of them.
func TestDeliveryAllocatesPerTopicNotPerViewer(t *testing.T) {
	mixed := func(i int) Encoding { return []Encoding{SSE, WebSocket}[i%2] }
	only := func(e Encoding) func(int) Encoding { return func(int) Encoding { return e } }
	for _, tt := range []struct {
		name   string
		enc    func(i int) Encoding
		want   Want
		events int
		frames int // for each viewer
	}{
		{"SSE", only(SSE), Want{}, 1, 1},
		{"WebSocket", only(WebSocket), Want{}, 1, 1},
		{"both", mixed, Want{}, 1, 1},
		{"both, three at once", mixed, Want{}, 3, 3},
		{"of a run", mixed, Want{Run: "run"}, 3, 3},
		{"of another run", mixed, Want{Run: "later"}, 3, 3},
		{"latest, one", mixed, Want{Latest: true}, 1, 1},
		{"latest, three at once", mixed, Want{Latest: true}, 3, 1},
		{"many topics", only(WebSocketMany), Want{}, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			measure := func(viewers int) float64 {
				s := newStage(t)
				s.deliver(1)
				for i := range viewers {
					s.add(t, &discard{enc: tt.enc(i)}, tt.want)
				}
				s.deliver(tt.events)
				before := s.hub.Metrics().Deliveries.Load()
				const runs = 20
				allocs := testing.AllocsPerRun(runs, func() { s.deliver(tt.events) })
				if got, want := s.hub.Metrics().Deliveries.Load()-before, int64((runs+1)*viewers*tt.frames); got != want {
					t.Errorf("%d deliveries, want %d", got, want)
				}
				return allocs
			}
			few, many := measure(100), measure(1000)
			if many > few+8 {
				t.Errorf("%v allocations for 100 viewers, %v for 1,000", few, many)
			}
		})
	}
}
