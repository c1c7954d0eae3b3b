package hub

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

// latestEvery is the default.
const latestEvery = 100 * time.Millisecond

// The first event after a pause comes at once; what comes within a pass's
// time comes as one snapshot.
func TestLatest(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
		p := view(t, h, "w", Want{Latest: true})
		check(t, p, "snapshot:0")
		time.Sleep(latestEvery)
		log(s, "w")
		check(t, p, "snapshot:0 update:1")
		s.publishLog("w", 20)
		check(t, p, "snapshot:0 update:1")
		time.Sleep(latestEvery)
		check(t, p, "snapshot:0 update:1 snapshot:21")
		log(s, "w")
		time.Sleep(latestEvery)
		check(t, p, "snapshot:0 update:1 snapshot:21 update:22")
	})
}

// A viewer that may skip costs the same at every rate of events.
func TestLatestDoesNotGrowWithTheRate(t *testing.T) {
	const seconds = 5
	for _, rate := range []int{10, 100, 1000} {
		bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
			p := view(t, h, "w", Want{Latest: true})
			synctest.Wait()
			for range seconds * rate {
				log(s, "w")
				time.Sleep(time.Second / time.Duration(rate))
			}
			time.Sleep(latestEvery)
			synctest.Wait()
			most := int(seconds*time.Second/latestEvery) + 3
			if p.writes > most {
				t.Errorf("at %d events/s: %d writes, want at most %d", rate, p.writes, most)
			}
			frames := p.frames(t)
			last := int64(-1)
			for _, f := range frames {
				if f.seq() <= last {
					t.Fatalf("at %d events/s: %s %s after %d", rate, f.Kind, f.ID, last)
				}
				last = f.seq()
			}
			if last != int64(seconds*rate) {
				t.Errorf("at %d events/s: the last is %d", rate, last)
			}
		})
	}
}

func TestLatestSlowSocket(t *testing.T) {
	bubble(t, Options{RingLen: 8}, func(t *testing.T, h *Hub, s *script) {
		p := view(t, h, "w", Want{Latest: true})
		synctest.Wait()
		time.Sleep(latestEvery)
		p.setRoom(0)
		log(s, "w")
		synctest.Wait() // this one waits for the socket
		for range 3 {
			s.publishLog("w", 20)
			time.Sleep(latestEvery)
		}
		p.setRoom(-1)
		time.Sleep(time.Second)
		check(t, p, "snapshot:0 update:1 snapshot:61") // and no gap
	})
}

func TestLatestEnd(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
		p := view(t, h, "w", Want{Latest: true})
		synctest.Wait()
		s.publishLog("w", 5)
		s.publish("w", 7, closedEvent)
		time.Sleep(latestEvery)
		check(t, p, "snapshot:0 snapshot:6 end:6 farewell")
	})
}

// Who resumes on a topic that stands still gets what it lacks.
func TestLatestResumes(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
		for range 5 {
			s.append("w", 7, progress.Event{Type: progress.TypeLog})
		}
		all := view(t, h, "w", Want{}) // the topic is there already
		check(t, all, "snapshot:5")
		want := after(s.at("w", 2))
		want.Latest = true
		p := view(t, h, "w", want)
		time.Sleep(latestEvery)
		check(t, p, "snapshot:5")
	})
}

// Its snapshots carry no records: they would be sent again in each pass.
func TestLatestHasNoRecords(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, h *Hub, s *script) {
		for i := range 5 {
			s.append("w", 7, progress.Event{Type: progress.TypeOutput, Step: "talk", Attempt: 1, Data: fmt.Appendf(nil, `"%d"`, i)})
		}
		p, all := view(t, h, "w", Want{Latest: true}), view(t, h, "w", Want{})
		for v, records := range map[*pipe]int{p: 0, all: 5} {
			check(t, v, "snapshot:5")
			var snap progress.Snapshot
			mustDecode([]byte(v.frames(t)[0].Data), &snap)
			if len(snap.Records) != records || snap.OutputFrom != 1 {
				t.Errorf("%d records, want %d", len(snap.Records), records)
			}
		}
	})
}
