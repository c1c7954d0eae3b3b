package subscriber_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/subscriber"
	"github.com/runcast/runcast/subscriber/hub"
)

// slow is one slow viewer and a fast one beside it.
type slow struct {
	*raw
	n *node
	// files are the node's certificate, where the transport needs one.
	files testenv.Certificate
	fast  *sseClient
	run   *run
	last  int64 // seq of the newest event
	// frames are those that the slow viewer has taken.
	frames []frame
}

func newSlow(t *testing.T, transport string, change func(*subscriber.Config)) *slow {
	n, files := startFor(t, transport, change)
	s := &slow{n: n, files: files, run: newRun(t, n.store, "w", "run")}
	fast := "sse"
	if isSecure(transport) {
		fast = "sse+h2"
	}
	s.fast = openOver(t, fast, n.url, files.Client, "w", "").(*sseClient)
	expect(t, s.fast, "snapshot")
	s.raw = openRaw(t, n, files, transport, "w")
	return s
}

// publish writes events of so many bytes and more, and sees that the fast
// viewer gets each. It returns the last one.
func (s *slow) publish(n, size int) (f frame) {
	s.t.Helper()
	text := strings.Repeat("x", size)
	events := make([]progress.Event, n)
	for i := range events {
		events[i] = s.run.event(progress.TypeLog, func(e *progress.Event) { e.Message = text })
	}
	if _, err := s.run.tryAppend(s.t.Context(), events...); err != nil {
		s.t.Fatal(err)
	}
	for range n {
		s.last++
		f = expect(s.t, s.fast, "update")
		if seq := f.event(s.t).Seq; seq != s.last {
			s.t.Fatalf("the fast viewer got %d, want %d", seq, s.last)
		}
	}
	return f
}

// fill writes more than any socket holds, half a megabyte.
func (s *slow) fill() {
	s.t.Helper()
	for range 6 {
		s.publish(4, 20_000)
	}
}

// readTo takes frames up to a seq.
func (s *slow) readTo(seq int64) {
	s.t.Helper()
	for {
		f, err := s.next()
		if err != nil {
			s.ordered()
			s.t.Fatalf("after %d frames, of %d events: %v", len(s.frames), s.last, err)
		}
		s.frames = append(s.frames, f)
		if f.Kind != "gap" && f.event(s.t).Seq >= seq {
			return
		}
	}
}

// ordered checks all that the slow viewer has taken: a snapshot, then each
// next event, or a gap because it was slow and a snapshot. It returns the
// number of gaps.
func (s *slow) ordered() (gaps int) {
	s.t.Helper()
	at, last := int64(0), "gap"
	for i, f := range s.frames {
		switch f.Kind {
		case "snapshot":
			if seq := f.snapshot(s.t).Seq; last != "gap" || seq < at {
				s.t.Fatalf("frame %d: a snapshot of %d follows %s %d", i, seq, last, at)
			} else {
				at = seq
			}
		case "update":
			if seq := f.event(s.t).Seq; last == "gap" || seq != at+1 {
				s.t.Fatalf("frame %d: %d follows %s %d", i, seq, last, at)
			}
			at++
		case "gap":
			gaps++
			if _, _, reason := gapOf(s.t, f); reason != "slow" || last == "gap" {
				s.t.Fatalf("frame %d: gap (%s) follows %s", i, reason, last)
			}
		default:
			s.t.Fatalf("frame %d is %+v", i, f)
		}
		last = f.Kind
	}
	return gaps
}

// closedSlow publishes until the viewer is closed, which has to be because it
// was slow, then takes what is left: all frames are whole but for the last,
// behind which the connection was cut.
func (s *slow) closedSlow() {
	s.t.Helper()
	eventually(s.t, "closed", func() bool {
		s.publish(1, 20_000)
		return s.n.Hub().Conns("") == 1
	})
	s.onlySlow(1)
	var end error
	for end == nil {
		var f frame
		if f, end = s.next(); end == nil {
			s.frames = append(s.frames, f)
		}
	}
	if code, ok := errors.AsType[closed](end); strings.Contains(end.Error(), "broken") || ok && code.code != 1013 {
		s.t.Error(end)
	}
	if s.ordered(); len(s.frames) == 0 {
		s.t.Error("not even the snapshot came")
	}
	s.publish(1, 10) // the others go on
}

// onlySlow checks that so many viewers were closed for being slow, and none
// for another reason.
func (s *slow) onlySlow(want int64) {
	s.t.Helper()
	for _, reason := range hub.CloseReasons {
		switch got := s.n.Hub().Metrics().Closes(reason); {
		case reason == hub.CloseSlow && got != want, reason != hub.CloseSlow && got != 0:
			s.t.Errorf("%d viewers were closed as %s", got, reason)
		}
	}
}

// Whatever a slow viewer does, the one beside it gets every event, and what
// it does get itself is whole and in order.
func TestSlowViewers(t *testing.T) {
	for _, transport := range transports {
		for _, tt := range []struct {
			name     string
			deadline time.Duration
			ring     int
			do       func(s *slow)
		}{
			{"takes nothing", 700 * time.Millisecond, 16, (*slow).closedSlow},
			{"a byte at a time", 700 * time.Millisecond, 16, func(s *slow) {
				var reader sync.WaitGroup
				stop := make(chan struct{})
				reader.Go(func() {
					for tick := time.Tick(10 * time.Millisecond); ; {
						select {
						case <-tick:
							_ = s.take(1) // it fails once the connection is cut
						case <-stop:
							return
						}
					}
				})
				eventually(s.t, "closed", func() bool {
					s.publish(1, 20_000)
					return s.n.Hub().Conns("") == 1
				})
				close(stop)
				reader.Wait()
				s.closedSlow()
			}},
			{"half a frame, then on", 10 * time.Second, 2048, func(s *slow) {
				s.half()
				s.readTo(s.last)
				if gaps := s.ordered(); gaps != 0 {
					s.t.Errorf("%d gaps, though the ring holds all", gaps)
				}
				s.publish(1, 10)
				s.readTo(s.last)
				s.onlySlow(0)
			}},
			{"half a frame, then off the ring", 10 * time.Second, 8, func(s *slow) {
				s.half()
				s.readTo(s.last)
				if gaps := s.ordered(); gaps == 0 {
					s.t.Error("no gap, though the ring is short")
				}
				s.publish(1, 10)
				s.readTo(s.last)
				s.ordered()
				s.onlySlow(0)
			}},
			{"full, recovers, idles, goes on", 2 * time.Second, 2048, func(s *slow) {
				s.publish(24, 20_000)
				s.readTo(s.last)
				// What is tested is that nothing happens in this time.
				time.Sleep(2200 * time.Millisecond)
				s.publish(1, 10)
				s.readTo(s.last)
				s.publish(24, 20_000)
				s.readTo(s.last)
				if gaps := s.ordered(); gaps != 0 {
					s.t.Errorf("%d gaps, though the ring holds all", gaps)
				}
				s.onlySlow(0)
			}},
			{"slowly but steadily", time.Second, 2048, func(s *slow) {
				// One event that takes several times the deadline.
				s.publish(1, 250_000)
				for range 60 {
					if err := s.take(4_000); err != nil {
						s.t.Fatal(err)
					}
					time.Sleep(30 * time.Millisecond) // the viewer's pace
				}
				s.readTo(s.last)
				s.ordered()
				s.onlySlow(0)
			}},
		} {
			t.Run(transport+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				tt.do(newSlow(t, transport, func(c *subscriber.Config) {
					c.WriteDeadline, c.RingLen = tt.deadline, tt.ring
				}))
			})
		}
	}
}

// half takes a frame to its middle and stops there, while far more comes
// than a socket holds.
func (s *slow) half() {
	s.t.Helper()
	s.readTo(0)
	f := s.publish(1, 40_000)
	if err := s.take(len(f.Data) / 2); err != nil {
		s.t.Fatal(err)
	}
	s.fill()
}
