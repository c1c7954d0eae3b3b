package hub

import "github.com/runcast/runcast/pkg/progress"

// maxUnread is how many events may come before a new viewer's snapshot has to
// be read again, to know the first seq that the stream holds. Redis trims a
// node of a stream at a time, which is as many events.
const maxUnread = 100

// snapshotFrame returns the snapshot at the head, with the records of the
// open outputs, or nil while something for it is being read. Bare leaves the
// records out.
func (t *topic) snapshotFrame(enc Encoding, bare bool) []byte {
	r := &t.ring
	snap, ok := r.snapshot()
	if !ok {
		t.reread()
		return nil
	}
	frames := &t.snapFrames
	if bare {
		frames = &t.bareFrames
	} else if r.unread > maxUnread && snap.FirstSeq > 0 {
		t.doubt()
		return nil
	} else if from := snap.OutputFrom; from > 0 && from <= r.base.Seq && from >= r.readable() {
		t.request(from)
		return nil
	}
	return t.shared(&frames[enc], r.head(), func(pos *progress.Position) []byte {
		s := *snap
		if s.Seq == 0 {
			s.V, s.WorkflowID = progress.Version, t.name.Name
		}
		s.Records = nil
		if s.OutputFrom > 0 && !bare {
			t.addRecords(&s)
		}
		return encodeFrame(enc, t.name, KindSnapshot, pos, marshal(&s))
	})
}

// addRecords puts the records of the open outputs into the snapshot.
func (t *topic) addRecords(s *progress.Snapshot) {
	r := &t.ring
	if r.base.Seq >= s.OutputFrom {
		// Not all of the output is to be had. The snapshot says so.
		s.FirstSeq = max(s.FirstSeq, r.base.Seq+1)
	}
	for _, e := range r.entries[max(0, s.OutputFrom-r.base.Seq-1):] {
		if e.about().Type.IsRecord() {
			s.Records = append(s.Records, e.data)
		}
	}
}
