package hub

import "github.com/runcast/runcast/pkg/progress"

// place compares the position that a viewer wants to go on from with the
// ring. It returns false while older events are being read, else the reason
// for a gap, or none: then the viewer is live, or gets its snapshot.
//
// A position counts only if the stream has, under its seq, the event that
// the viewer has seen: seq and check.
func (t *topic) place(v *viewer) (Reason, bool) {
	r := &t.ring
	head := r.head()
	if v.want.Bad {
		return ReasonBadPosition, true
	}
	if v.want.After == nil {
		v.phase = snapshotting
		return "", true
	}
	w := *v.want.After
	reason, ok := t.compare(w, v)
	if !ok {
		return "", false
	}
	switch reason {
	case "":
	case ReasonTrimmed:
		return reason, true
	default:
		// Another node may be ahead of this one, whose messages are late or
		// lost. Only a reading begun after the viewer came can tell.
		if !v.placed && t.finished < v.confirm {
			t.doubt()
			return "", false
		}
		return reason, true
	}
	if !t.scanForRun(v) {
		return "", false
	}
	if !v.placed {
		t.hub.metrics.Resumes.Add(1)
	}
	v.pos, v.placed, v.phase = w, true, live
	if w == head && head.Seq > 0 && r.closed() && !v.stays {
		// It has its end already and would have been answered so, had the
		// head been known when it came.
		if snap, ok := r.snapshot(); ok && v.endsWith(snap.RunID, snap.Chain) {
			t.toEnd(v)
		}
	}
	return "", true
}

// compare returns the reason why the stream, as far as it is known here,
// cannot be gone on with from a position, or none. It returns false while
// older events are being read.
func (t *topic) compare(w progress.Position, v *viewer) (Reason, bool) {
	r := &t.ring
	head := r.head()
	switch {
	case w.IsZero():
		if head.Seq == 0 || r.base.Seq == 0 {
			break
		}
		if r.readable() > 1 {
			return ReasonTrimmed, true
		}
		t.request(1)
		return "", false
	case w.Epoch != head.Epoch:
		if v.placed {
			return ReasonLost, true
		}
		return ReasonForeign, true
	case w.Seq > head.Seq:
		if v.placed {
			return ReasonLost, true
		}
		return ReasonFuture, true
	default:
		check := r.checkAt(w.Seq)
		if check == "" {
			if w.Seq < r.readable() {
				return ReasonTrimmed, true
			}
			t.request(w.Seq)
			return "", false
		}
		if check != w.Check {
			return ReasonForked, true
		}
	}
	return "", true
}

// readable returns the lowest seq that a read may still bring into the ring.
func (r *ring) readable() int64 {
	return max(r.minHeld, r.head().Seq-int64(r.maxLen)+1)
}

// resolveEnd reports whether pos is the end of the newest chain, and the
// chain is one that the viewer waits for. It returns false for known while
// that is being read. Topic.mu is held.
func (t *topic) resolveEnd(pos progress.Position, v *viewer) (end, known bool) {
	if !t.ready || pos.IsZero() || pos != t.ring.head() || !t.ring.closed() {
		return false, true
	}
	if !t.scanForRun(v) {
		return false, false
	}
	snap, ok := t.ring.snapshot()
	return ok && v.endsWith(snap.RunID, snap.Chain), true
}
