package hub

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

// check waits until the bubble is idle and compares what a viewer saw.
func check(t *testing.T, p *pipe, want string) {
	t.Helper()
	synctest.Wait()
	if got := kinds(p.frames(t)); got != want {
		t.Errorf("saw %q\nwant %q", got, want)
	}
}

func bubble(t *testing.T, o Options, f func(t *testing.T, h *Hub, s *script)) {
	synctest.Test(t, func(t *testing.T) {
		h, s := startHub(t, o)
		f(t, h, s)
	})
}

func log(h *script, id string) { h.publish(id, 7, progress.Event{Type: progress.TypeLog}) }

var closedEvent = progress.Event{Type: progress.TypeClosed, Status: progress.StatusCompleted}

func TestAttach(t *testing.T) {
	t.Run("before the run", func(t *testing.T) {
		bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
			p := view(t, h, "w", Want{})
			check(t, p, "snapshot:0")
			s.publishLog("w", 3)
			check(t, p, "snapshot:0 update:1 update:2 update:3")
		})
	})
	t.Run("events between the subscription and the first reading", func(t *testing.T) {
		bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
			s.append("w", 7, progress.Event{Type: progress.TypeLog})
			once := false
			s.onRead = func(string, int64) {
				if !once {
					once = true
					s.publishLog("w", 2) // not in the reading, in the subscription
				}
			}
			p := view(t, h, "w", Want{})
			check(t, p, "snapshot:3")
		})
	})
	t.Run("what is in both comes once", func(t *testing.T) {
		bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
			data := s.append("w", 7, progress.Event{Type: progress.TypeLog})
			s.onRead = func(string, int64) { s.hub.Message(workflow("w"), data) }
			p := view(t, h, "w", Want{})
			check(t, p, "snapshot:1")
		})
	})
	t.Run("a constant number of reads for many, at any positions", func(t *testing.T) {
		bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
			for range 500 {
				s.append("w", 7, progress.Event{Type: progress.TypeLog})
			}
			var all []*pipe
			for i := range 400 {
				w := Want{}
				if i > 0 {
					w = after(s.at("w", int64(i)))
				}
				all = append(all, view(t, h, "w", w))
			}
			synctest.Wait()
			subs, adds, reads := s.counts(workflow("w"))
			if subs != 1 || adds != 1 || reads > 4 {
				t.Errorf("%d subscriptions, %d adds, %d reads", subs, adds, reads)
			}
			for i, p := range all {
				got, want := len(p.frames(t)), 500-i
				if i == 0 {
					want = 1
				}
				if got != want {
					t.Fatalf("viewer after %d saw %d frames, want %d", i, got, want)
				}
			}
		})
	})
}

func TestResume(t *testing.T) {
	garbage := Want{Bad: true, Text: "rubbish"}
	other := progress.Position{Epoch: 8, Seq: 3, Check: "abcdefab"}
	for _, tt := range []struct {
		name string
		trim int
		want func(s *script) Want
		sees string
		from string // of the gap; "" when not looked at
	}{
		{"in the middle", 0, func(s *script) Want { return after(s.at("w", 3)) }, "update:4 update:5", ""},
		{"at the head", 0, func(s *script) Want { return after(s.at("w", 5)) }, "", ""},
		{"from the beginning", 0, func(*script) Want { return after(progress.Position{}) }, "update:1 update:2 update:3 update:4 update:5", ""},
		{"from the beginning, trimmed", 2, func(*script) Want { return after(progress.Position{}) }, "gap:trimmed snapshot:5", "0-0"},
		{"the last one held", 2, func(s *script) Want { return after(s.at("w", 3)) }, "update:4 update:5", ""},
		{"trimmed", 3, func(s *script) Want { return after(s.at("w", 3)) }, "gap:trimmed snapshot:5", ""},
		{"stream gone, hash there, at the head", 5, func(s *script) Want { return after(s.at("w", 5)) }, "", ""},
		{"another epoch", 0, func(*script) Want { return after(other) }, "gap:foreign snapshot:5", other.String()},
		{"another check", 0, func(s *script) Want {
			pos := s.at("w", 3)
			pos.Check = "00000000"
			return after(pos)
		}, "gap:forked snapshot:5", ""},
		{"another check at the head", 0, func(s *script) Want {
			pos := s.at("w", 5)
			pos.Check = "00000000"
			return after(pos)
		}, "gap:forked snapshot:5", ""},
		{"beyond the head", 0, func(*script) Want { return after(progress.Position{Epoch: 7, Seq: 6, Check: "abcdefab"}) }, "gap:future snapshot:5", ""},
		{"no position", 0, func(*script) Want { return garbage }, "gap:bad_position snapshot:5", "rubbish"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
				for range 5 {
					s.append("w", 7, progress.Event{Type: progress.TypeLog})
				}
				s.stream("w").trimmed = tt.trim
				p := view(t, h, "w", tt.want(s))
				check(t, p, tt.sees)
				if tt.from != "" {
					g := p.frames(t)[0].gap()
					if id := p.frames(t)[0].ID; id != "" {
						t.Errorf("the gap moves the client to %s", id)
					}
					if g.From != tt.from || g.To != s.position("w").String() {
						t.Errorf("gap %+v", g)
					}
				}
				// The same for one who comes when the ring is there, and not so soon
				// that it shares the next reading with others.
				time.Sleep(doubtEvery)
				q := view(t, h, "w", tt.want(s))
				check(t, q, tt.sees)
				// And all of them go on.
				log(s, "w")
				want := tt.sees + " update:6"
				if tt.sees == "" {
					want = "update:6"
				}
				check(t, p, want)
				check(t, q, want)
			})
		})
	}
	t.Run("a position of an unknown workflow", func(t *testing.T) {
		bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
			check(t, view(t, h, "w", after(other)), "gap:foreign snapshot:0")
			check(t, view(t, h, "w", after(progress.Position{})), "")
		})
	})
	t.Run("beyond what this node knows yet", func(t *testing.T) {
		bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
			log(s, "w")
			p := view(t, h, "w", Want{})
			synctest.Wait()
			// Another node heard of these; here the messages are lost.
			s.append("w", 7, progress.Event{Type: progress.TypeLog})
			s.append("w", 7, progress.Event{Type: progress.TypeLog})
			check(t, view(t, h, "w", after(s.at("w", 2))), "update:3")
			check(t, p, "snapshot:1 update:2 update:3")
			s.drop("w")
			s.append("w", 8, progress.Event{Type: progress.TypeLog})
			s.append("w", 8, progress.Event{Type: progress.TypeLog})
			time.Sleep(doubtEvery)
			check(t, view(t, h, "w", after(s.at("w", 1))), "update:2")
			check(t, p, "snapshot:1 update:2 update:3 gap:lost snapshot:2")
		})
	})
	t.Run("at an end that this node alone takes for the newest", func(t *testing.T) {
		bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
			s.append("w", 7, closedEvent)
			hd := h.Open(t.Context(), workflow("w"))
			defer hd.Release()
			s.append("w", 7, progress.Event{Type: progress.TypeLog, RunID: "r2", Chain: "r2"})
			if hd.AtEnd(t.Context(), s.at("w", 1), "") {
				t.Error("a later chain was overlooked")
			}
		})
	})
	t.Run("an end that came with a new epoch", func(t *testing.T) {
		bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
			s.publishLog("w", 5)
			p := view(t, h, "w", Want{})
			synctest.Wait()
			s.drop("w")
			s.publish("w", 8, progress.Event{Type: progress.TypeClosed, Status: progress.StatusFailed, Message: "kept"})
			check(t, p, "snapshot:5 gap:lost snapshot:1 end:1 farewell")
			if end := p.frames(t)[3]; end.Data != string(s.stream("w").events[0].Data) {
				t.Errorf("end %s", end.Data)
			}
		})
	})
	t.Run("further back than a node reads", func(t *testing.T) {
		bubble(t, Options{RingLen: 10}, func(t *testing.T, h *Hub, s *script) {
			for range 50 {
				s.append("w", 7, progress.Event{Type: progress.TypeLog})
			}
			check(t, view(t, h, "w", after(s.at("w", 5))), "gap:trimmed snapshot:50")
			check(t, view(t, h, "w", after(s.at("w", 47))), "update:48 update:49 update:50")
		})
	})
}

func TestWakeUpOnly(t *testing.T) {
	event := progress.Event{Type: progress.TypeLog}
	for _, tt := range []struct {
		name  string
		fault func(h *Hub, s *script)
		sees  string
	}{
		{"a hole", func(h *Hub, s *script) {
			s.append("w", 7, event) // lost
			s.publish("w", 7, event)
		}, "snapshot:2 update:3 update:4"},
		{"a resync", func(h *Hub, s *script) {
			s.append("w", 7, event)
			h.Resync(workflow("w"))
		}, "snapshot:2 update:3"},
		{"a bad message", func(h *Hub, s *script) {
			s.append("w", 7, event)
			h.Message(workflow("w"), []byte(`{"epoch":7,"seq":3`))
		}, "snapshot:2 update:3"},
		{"a repeated message", func(h *Hub, s *script) {
			data := s.append("w", 7, event)
			h.Message(workflow("w"), data)
			h.Message(workflow("w"), data)
		}, "snapshot:2 update:3"},
		{"messages out of order", func(h *Hub, s *script) {
			a, b := s.append("w", 7, event), s.append("w", 7, event)
			h.Message(workflow("w"), b)
			h.Message(workflow("w"), a)
		}, "snapshot:2 update:3 update:4"},
		{"a lost last message", func(h *Hub, s *script) {
			s.append("w", 7, event)
			time.Sleep(11 * time.Second) // the comparison with the master
		}, "snapshot:2 update:3"},
		{"a message that does not chain", func(h *Hub, s *script) {
			h.Message(workflow("w"), []byte(`{"epoch":7,"seq":3,"check":"00000000","type":"log"}`))
		}, "snapshot:2"},
		{"a forged message of another epoch", func(h *Hub, s *script) {
			h.Message(workflow("w"), []byte(`{"epoch":9,"seq":1,"check":"00000000","type":"log"}`))
		}, "snapshot:2"},
		{"a new epoch", func(h *Hub, s *script) {
			s.drop("w")
			s.publish("w", 8, event)
		}, "snapshot:2 gap:lost snapshot:1"},
		{"a new epoch that nobody published", func(h *Hub, s *script) {
			s.drop("w")
			for range 4 {
				s.append("w", 8, event)
			}
			time.Sleep(11 * time.Second)
		}, "snapshot:2 gap:lost snapshot:4"},
		{"a stream that is gone", func(h *Hub, s *script) {
			s.drop("w")
			time.Sleep(11 * time.Second)
			s.publish("w", 9, event)
		}, "snapshot:2 gap:lost snapshot:0 update:1"},
		{"a fork: the last event replaced by others", func(h *Hub, s *script) {
			st := s.stream("w")
			events := st.events[:1]
			st.snap, st.events = progress.Snapshot{}, nil
			var first progress.Event
			mustDecode(events[0].Data, &first)
			s.append("w", 7, first)
			s.append("w", 7, progress.Event{Type: progress.TypeLog, Message: "another"})
			s.publish("w", 7, event)
		}, "snapshot:2 gap:forked snapshot:3"},
		{"a fork of the same length", func(h *Hub, s *script) {
			st := s.stream("w")
			st.snap, st.events = progress.Snapshot{}, nil
			s.append("w", 7, event)
			s.append("w", 7, progress.Event{Type: progress.TypeLog, Message: "another"})
			time.Sleep(11 * time.Second)
		}, "snapshot:2 gap:forked snapshot:2"},
		{"a fork that is told by a message of a known seq", func(h *Hub, s *script) {
			st := s.stream("w")
			st.snap, st.events = progress.Snapshot{}, nil
			s.append("w", 7, event)
			s.publish("w", 7, progress.Event{Type: progress.TypeLog, Message: "another"})
		}, "snapshot:2 gap:forked snapshot:2"},
		{"the tail lost", func(h *Hub, s *script) {
			st := s.stream("w")
			var first progress.Event
			mustDecode(st.events[0].Data, &first)
			st.snap, st.events = progress.Snapshot{}, nil
			s.append("w", 7, first)
			h.Resync(workflow("w"))
		}, "snapshot:2 gap:lost snapshot:1"},
		{"so much missed that it is trimmed", func(h *Hub, s *script) {
			for range 20 {
				s.append("w", 7, event)
			}
			s.stream("w").trimmed = 10
			h.Resync(workflow("w"))
		}, "snapshot:2 gap:trimmed snapshot:22"},
		{"missed, and just the last known entry still held", func(h *Hub, s *script) {
			s.append("w", 7, event)
			s.stream("w").trimmed = 1
			h.Resync(workflow("w"))
		}, "snapshot:2 update:3"},
		{"missed, and the last known entry trimmed", func(h *Hub, s *script) {
			s.append("w", 7, event)
			s.stream("w").trimmed = 2
			h.Resync(workflow("w"))
		}, "snapshot:2 gap:trimmed snapshot:3"},
		{"a store that fails for a while", func(h *Hub, s *script) {
			s.setFail(errors.New("away"))
			s.append("w", 7, event)
			h.Resync(workflow("w"))
			time.Sleep(time.Minute)
			s.setFail(nil)
			time.Sleep(3 * time.Second)
		}, "snapshot:2 update:3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
				s.append("w", 7, event)
				s.append("w", 7, event)
				p := view(t, h, "w", Want{})
				check(t, p, "snapshot:2")
				tt.fault(h, s)
				check(t, p, tt.sees)
			})
		})
	}
}

// A store that is away when a viewer comes keeps nobody out.
func TestStoreAwayAtFirst(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
		s.setFail(errors.New("away"))
		log(s, "w")
		p := view(t, h, "w", Want{})
		time.Sleep(time.Minute)
		check(t, p, "")
		s.setFail(nil)
		time.Sleep(3 * time.Second)
		check(t, p, "snapshot:1")
	})
}

// A burst beyond the inbox is read from the stream.
func TestInboxOverflow(t *testing.T) {
	bubble(t, Options{RingLen: 3 * maxInbox}, func(t *testing.T, h *Hub, s *script) {
		hold := make(chan struct{})
		first := true
		s.onRead = func(string, int64) {
			if first {
				first = false
				<-hold
			}
		}
		p := view(t, h, "w", Want{})
		synctest.Wait()
		s.publishLog("w", maxInbox+1) // no later one shows the hole
		close(hold)
		synctest.Wait()
		frames := p.frames(t)
		last := int64(0)
		for i, f := range frames {
			if i > 0 && f.seq() != last+1 {
				t.Fatalf("frame %d is %s %s after %d", i, f.Kind, f.ID, last)
			}
			last = f.seq()
		}
		if last != maxInbox+1 || h.Metrics().InboxDropped.Load() == 0 {
			t.Errorf("last %d, dropped %d times", last, h.Metrics().InboxDropped.Load())
		}
	})
}

// The snapshot's records are those of the open output, from its beginning.
func TestSnapshotRecords(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
		s.append("w", 7, progress.Event{Type: progress.TypeLog, Message: "before"})
		for i := range 5 {
			s.append("w", 7, progress.Event{Type: progress.TypeOutput, Step: "talk", Attempt: 1, Data: fmt.Appendf(nil, `"%d"`, i)})
			s.append("w", 7, progress.Event{Type: progress.TypeProgress})
		}
		p := view(t, h, "w", Want{})
		check(t, p, "snapshot:11")
		var snap progress.Snapshot
		mustDecode([]byte(p.frames(t)[0].Data), &snap)
		if snap.OutputFrom != 2 || len(snap.Records) != 5 || snap.FirstSeq != 1 {
			t.Errorf("from %d, %d records, first %d", snap.OutputFrom, len(snap.Records), snap.FirstSeq)
		}
	})
}

// What a node does not hold of an output, the snapshot does not claim.
func TestSnapshotRecordsBeyondTheRing(t *testing.T) {
	bubble(t, Options{RingLen: 4}, func(t *testing.T, h *Hub, s *script) {
		for range 10 {
			s.append("w", 7, progress.Event{Type: progress.TypeOutput, Step: "talk", Attempt: 1, Data: []byte(`"x"`)})
		}
		p := view(t, h, "w", Want{})
		check(t, p, "snapshot:10")
		var snap progress.Snapshot
		mustDecode([]byte(p.frames(t)[0].Data), &snap)
		if snap.OutputFrom != 1 || len(snap.Records) != 4 || snap.FirstSeq != 7 {
			t.Errorf("from %d, %d records, first %d", snap.OutputFrom, len(snap.Records), snap.FirstSeq)
		}
	})
}

// What a snapshot says of the first seq that is held is not of long ago.
func TestSnapshotFirstSeq(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
		log(s, "w")
		check(t, view(t, h, "w", Want{}), "snapshot:1")
		for range 3 * maxUnread {
			log(s, "w")
		}
		synctest.Wait()
		s.stream("w").trimmed = 2 * maxUnread
		q := view(t, h, "w", Want{})
		time.Sleep(doubtEvery)
		check(t, q, fmt.Sprint("snapshot:", 3*maxUnread+1))
		var snap progress.Snapshot
		mustDecode([]byte(q.frames(t)[0].Data), &snap)
		if snap.FirstSeq != 2*maxUnread+1 {
			t.Errorf("first_seq %d", snap.FirstSeq)
		}
	})
}

// A gap is followed by its snapshot, also when the history changes between.
func TestOneGapForEachSnapshot(t *testing.T) {
	bubble(t, Options{RingBytes: 3000}, func(t *testing.T, h *Hub, s *script) {
		out := progress.Event{Type: progress.TypeOutput, Step: "talk", Attempt: 1, Data: []byte(`"x"`)}
		big := progress.Event{Type: progress.TypeLog, Message: strings.Repeat("x", 500)}
		p := view(t, h, "w", Want{})
		synctest.Wait()
		p.setRoom(0)
		s.publish("w", 7, out)
		synctest.Wait()
		for range 20 {
			s.publish("w", 7, big)
		}
		synctest.Wait()
		s.setFail(errors.New("away")) // so that the snapshot, for its records, has to wait
		p.setRoom(-1)
		time.Sleep(500 * time.Millisecond)
		check(t, p, "snapshot:0 update:1 gap:slow")
		s.drop("w")
		for range 3 {
			s.append("w", 8, out)
		}
		s.setFail(nil)
		time.Sleep(5 * time.Second)
		check(t, p, "snapshot:0 update:1 gap:slow snapshot:3")
	})
}
