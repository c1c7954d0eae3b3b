package hub

import (
	"bytes"

	"github.com/runcast/runcast/pkg/progress"
)

// Want says where a viewer wants to begin.
type Want struct {
	// After is the position to go on from; nil: with a snapshot.
	After *progress.Position
	// Bad says that the client sent a position that is none: Text.
	Bad  bool
	Text string
	// Run is the run whose end is waited for; empty: any.
	Run string
	// Latest allows seqs to be skipped.
	Latest bool
}

type phase uint8

const (
	// placing: the wanted position is not yet compared with the ring.
	placing phase = iota
	// snapshotting: a snapshot comes next.
	snapshotting
	// live: pos is the last position delivered; events after it come next.
	live
	// ending: the end frame comes next, whatever happens meanwhile.
	ending
	// ended: nothing more comes on this connection.
	ended
)

// viewer is one cursor: a connection's place in a topic. All of it but the
// first three fields is guarded by the topic's mutex.
type viewer struct {
	conn  *Conn
	topic *topic
	// stays says that the viewer goes on after an end, since its connection
	// has other topics.
	stays bool

	index int // in topic.viewers; -1 once removed
	want  Want
	phase phase
	gen   uint32
	// placed says that something was delivered, so that pos counts.
	placed bool
	pos    progress.Position
	// end is the frame that an ending viewer gets.
	end []byte
	// confirm is the number of the first reading begun after the viewer came.
	confirm uint64
	// chain is the chain of want.Run, once known.
	chain   string
	scanned bool
	// pass is the last one in which a viewer that may skip was served.
	pass uint64
	// noticed is the number of the last notice that it has been told.
	noticed uint32
}

// step returns the viewer's next frame, or nil when there is none for now.
// moved says that pos is the frame's position. Topic.mu is held.
func (t *topic) step(v *viewer) (frame []byte, moved bool) {
	if !t.ready {
		return nil, false
	}
	if t.name.Kind == progress.TopicTag {
		return t.stepTag(v), false
	}
	if gap, ok := t.settle(v); gap != nil || !ok {
		return gap, false
	}
	switch v.phase {
	case snapshotting:
		return t.stepSnapshot(v)
	case ending:
		v.phase = ended
		if v.stays {
			v.phase = live
		}
		frame = v.end
		v.end = nil
		return frame, true
	case live:
		return t.stepLive(v)
	}
	return nil, false
}

// settle finds the place of a viewer that is new, or whose history is another
// one now. It returns the gap where there is one, and false while older
// events are being read. Topic.mu is held, and the topic is ready.
func (t *topic) settle(v *viewer) (gap []byte, ok bool) {
	if v.phase == ending {
		return nil, true // it has had the snapshot that this end belongs to
	}
	if v.gen != t.gen {
		// The history is another one. The viewer is placed anew where it was,
		// unless it waits for a snapshot anyway.
		if v.placed && v.phase == live {
			at := v.pos
			v.want.After, v.want.Bad = &at, false
			v.phase = placing
		} else if t.hub.opts.Sparse && v.phase == snapshotting {
			v.want.After, v.want.Bad = nil, false
			v.phase = placing // there may be a notice
		}
		v.gen = t.gen
	}
	if v.phase != placing {
		return nil, true
	}
	if t.hub.opts.Sparse {
		return t.settleVersion(v), true
	}
	reason, ok := t.place(v)
	if !ok {
		return nil, false
	}
	if reason != "" {
		v.phase = snapshotting
		return t.gapFrame(v, reason), true
	}
	return nil, true
}

func (t *topic) stepSnapshot(v *viewer) ([]byte, bool) {
	if !t.scanForRun(v) {
		return nil, false
	}
	frame := t.snapshotFrame(v.conn.enc, v.want.Latest)
	if frame == nil {
		return nil, false
	}
	return frame, t.snapshotted(v, t.ring.head())
}

func (t *topic) stepLive(v *viewer) ([]byte, bool) {
	r := &t.ring
	head := r.head()
	switch {
	case v.pos.Seq >= head.Seq:
		return nil, false
	case v.want.Latest:
		return t.stepLatest(v)
	case v.pos.Seq < r.base.Seq:
		v.phase = snapshotting
		return t.gapFrame(v, ReasonSlow), false
	}
	return t.stepEvent(v)
}

// stepEvent returns the event that follows the viewer's position.
func (t *topic) stepEvent(v *viewer) ([]byte, bool) {
	e := t.ring.at(v.pos.Seq + 1)
	v.pos, v.placed = e.pos, true
	v.passes(e)
	if e.closed {
		if about := e.about(); v.endsWith(about.RunID, about.Chain) {
			if !v.stays {
				v.phase = ended
			}
			return t.endOf(e, v.conn.enc), true
		}
	}
	return t.updateFrame(e, v.conn.enc), true
}

// passes learns the chain of the wanted run from an event on the way.
func (v *viewer) passes(e *entry) {
	if v.want.Run == "" || v.chain != "" || !bytes.Contains(e.data, []byte(v.want.Run)) {
		return
	}
	if about := e.about(); about.RunID == v.want.Run {
		v.chain = about.Chain
	}
}

// toEnd has the viewer, which is at the head, get the end that the head is.
// The frame is chosen now: the next chain may begin before it goes out.
func (t *topic) toEnd(v *viewer) {
	v.phase, v.end = ending, t.endFrame(v.conn.enc)
}

// endsWith reports whether the end of this chain, which closed with this
// run, is one that the viewer waits for.
func (v *viewer) endsWith(run, chain string) bool {
	return v.want.Run == "" || v.want.Run == run || v.want.Run == chain || (v.chain != "" && v.chain == chain)
}

// scanForRun looks for the wanted run in what the stream still holds, once:
// it may be in the middle of the current chain, or be over. A run that is
// over, followed by another chain, is no longer waited for. It returns false
// while older events are being read.
func (t *topic) scanForRun(v *viewer) bool {
	if v.want.Run == "" || v.scanned {
		return true
	}
	snap, ok := t.ring.snapshot()
	if !ok {
		t.reread()
		return false
	}
	if v.want.Run == snap.RunID || v.want.Run == snap.Chain {
		v.scanned, v.chain = true, snap.Chain
		return true
	}
	if from := t.ring.readable(); from <= t.ring.base.Seq {
		t.request(from)
		return false
	}
	v.scanned = true
	for _, e := range t.ring.entries {
		if !bytes.Contains(e.data, []byte(v.want.Run)) {
			continue
		}
		about := e.about()
		if about.RunID != v.want.Run && about.Chain != v.want.Run {
			continue
		}
		v.chain = about.Chain
		if about.Chain != snap.Chain {
			v.want.Run = ""
		}
		break
	}
	return true
}

// gapFrame says what the viewer misses. It carries no id: whoever loses the
// connection between a gap and its snapshot has to get both again.
func (t *topic) gapFrame(v *viewer, reason Reason) []byte {
	return t.gapOf(v, Gap{Reason: reason})
}

func (t *topic) gapOf(v *viewer, gap Gap) []byte {
	t.hub.metrics.gap(gap.Reason)
	from := v.want.Text
	switch {
	case v.placed:
		from = v.pos.String()
	case !v.want.Bad && v.want.After != nil:
		from = v.want.After.String()
	}
	gap.From, gap.To = from, t.ring.head().String()
	return encodeFrame(v.conn.enc, t.name, KindGap, nil, marshal(gap))
}
