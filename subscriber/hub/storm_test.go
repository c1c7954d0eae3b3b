package hub

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

// However many come within a second, and at whatever positions, the stream is
// read a few times.
func TestStormReads(t *testing.T) {
	const viewers = 1000
	foreign := progress.Position{Epoch: 3, Seq: 1, Check: "00000000"}
	for _, tt := range []struct {
		name string
		want func(s *script, i int) Want
		most int
	}{
		{"new", func(*script, int) Want { return Want{} }, 2},
		{"oldest first", func(s *script, i int) Want { return after(s.at("w", int64(i+1))) }, 6},
		{"newest first", func(s *script, i int) Want { return after(s.at("w", int64(viewers-i))) }, 6},
		{"foreign", func(*script, int) Want { return after(foreign) }, 25},
		{"future", func(s *script, i int) Want {
			pos := s.at("w", viewers)
			pos.Seq += 100
			return after(pos)
		}, 25},
		{"bad", func(*script, int) Want { return Want{Bad: true, Text: "x"} }, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
				for range viewers {
					s.append("w", 7, progress.Event{Type: progress.TypeLog})
				}
				var all []*pipe
				for i := range viewers {
					all = append(all, view(t, h, "w", tt.want(s, i)))
					time.Sleep(time.Millisecond)
				}
				time.Sleep(doubtEvery)
				synctest.Wait()
				if s.reads > tt.most {
					t.Errorf("%d readings, want at most %d", s.reads, tt.most)
				}
				for i, p := range all {
					frames := p.frames(t)
					if want := tt.want(s, i); want.After != nil && *want.After == s.at("w", viewers) {
						continue // it has all of it
					}
					if len(frames) == 0 || frames[len(frames)-1].seq() != viewers {
						t.Fatalf("viewer %d: %s", i, kinds(frames))
					}
				}
			})
		})
	}
}

// Those who come back to a stream that has ended share the readings that make
// sure of it.
func TestStormAtTheEnd(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
		s.append("w", 7, closedEvent)
		end := s.at("w", 1)
		var group sync.WaitGroup
		ended := make(chan bool, 1000)
		for range cap(ended) {
			group.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				o := h.Open(ctx, workflow("w"))
				defer o.Release()
				ended <- o.AtEnd(ctx, end, "")
			})
			time.Sleep(time.Millisecond)
		}
		group.Wait()
		for range cap(ended) {
			if !<-ended {
				t.Fatal("somebody was not told")
			}
		}
		if s.reads > 25 {
			t.Errorf("%d readings", s.reads)
		}
	})
}

// Places count from when they are taken, not from when they are used.
func TestPlaces(t *testing.T) {
	bubble(t, Options{MaxConns: 2}, func(t *testing.T, h *Hub, s *script) {
		p := view(t, h, "w", Want{})
		place, err := h.Reserve()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Reserve(); !errors.Is(err, ErrFull) {
			t.Errorf("a third place: %v", err)
		}
		place.Release()
		place.Release() // a second time does nothing
		q := view(t, h, "w", Want{})
		if _, err := h.Reserve(); !errors.Is(err, ErrFull) {
			t.Errorf("a third connection: %v", err)
		}
		synctest.Wait()
		p.end(CloseClient)
		q.end(CloseClient)
		synctest.Wait()
		for range 2 {
			if _, err := h.Reserve(); err != nil {
				t.Errorf("after all have gone: %v", err)
			}
		}
		h.Drain(t.Context())
		if _, err := h.Reserve(); !errors.Is(err, ErrDraining) {
			t.Errorf("while it drains: %v", err)
		}
	})
}
