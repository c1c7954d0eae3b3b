package hub

import (
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

// latestState is about the viewers that may skip seqs. They are written to in
// passes: the first event after a pause at once, further ones together, and
// each viewer once in a pass. What all lack more than one event of is one
// snapshot, made once. So what such a viewer costs does not grow with the rate
// of events. Guarded by the topic's mutex.
type latestState struct {
	viewers []*viewer
	// due says that there is something new since the last pass.
	due bool
	// last is when the last pass began; pass counts them.
	last time.Time
	pass uint64
	// frames are the snapshots of this pass, by encoding: where the head was
	// when the first viewer needed one.
	frames [encodings]sharedFrame
}

// passLatest adds the viewers that may skip to those that are written to, if
// a pass is due, else it returns how long to wait for it; 0: there is nothing
// to wait for. The mutex is held.
func (t *topic) passLatest(viewers []*viewer, now time.Time) ([]*viewer, time.Duration) {
	l := &t.latest
	if !t.ready || !l.due || len(l.viewers) == 0 {
		return viewers, 0
	}
	if rest := t.hub.opts.LatestEvery - now.Sub(l.last); rest > 0 {
		return viewers, rest
	}
	l.due, l.last = false, now
	l.pass++
	l.frames = [encodings]sharedFrame{}
	return append(viewers, l.viewers...), 0
}

// stepLatest returns the next frame of a live viewer that may skip: the one
// event that it lacks, or a snapshot in the place of several.
func (t *topic) stepLatest(v *viewer) ([]byte, bool) {
	l := &t.latest
	if v.pass == l.pass {
		return nil, false // the next pass brings more
	}
	v.pass = l.pass
	head := t.ring.head()
	if v.pos.Seq+1 == head.Seq && v.pos.Seq >= t.ring.base.Seq {
		return t.stepEvent(v)
	}
	if !t.scanForRun(v) {
		v.pass--
		return nil, false
	}
	f := &l.frames[v.conn.enc]
	if f.bytes == nil || f.gen != t.gen {
		bytes := t.snapshotFrame(v.conn.enc, true)
		if bytes == nil {
			v.pass-- // it is being read
			return nil, false
		}
		*f = sharedFrame{gen: t.gen, pos: head, bytes: bytes}
	}
	if v.pos.Seq >= f.pos.Seq {
		return nil, false // it came while the pass was under way
	}
	return f.bytes, t.snapshotted(v, f.pos)
}

// snapshotted moves the viewer to the snapshot that it is given.
func (t *topic) snapshotted(v *viewer, pos progress.Position) bool {
	v.pos, v.placed, v.phase = pos, true, live
	v.want.After, v.want.Bad = nil, false
	if t.ring.snap.RunID == v.want.Run {
		v.chain = t.ring.snap.Chain // its events may be skipped
	}
	if pos == t.ring.head() && t.ring.closed() && v.endsWith(t.ring.snap.RunID, t.ring.snap.Chain) {
		t.toEnd(v)
	}
	return true
}
