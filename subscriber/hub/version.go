package hub

import (
	"context"
	"encoding/json"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

// A sparse topic holds the newest version alone, with the event that brought
// it. A viewer that has the version before gets that event; any other gets
// the snapshot.

// overLinger bounds how long a sparse topic stays that has ended, or that has
// nothing: its source follows no further, so that a later run is found by
// following anew.
const overLinger = time.Second

// lingerOf returns how long the topic stays after its last viewer.
func (h *Hub) lingerOf(t *topic) time.Duration {
	if t.over.Load() {
		return min(h.opts.Linger, overLinger)
	}
	return h.opts.Linger
}

// before reports whether a version comes before another one.
func before(a, b progress.Position) bool {
	return a.Epoch < b.Epoch || a.Epoch == b.Epoch && a.Seq < b.Seq
}

// newVersion reads an event from its wire form. It reports false for what is
// no event, or has no version.
func newVersion(data []byte) (*entry, *progress.Event, bool) {
	e := new(progress.Event)
	if json.Unmarshal(data, e) != nil || e.Epoch <= 0 || e.Seq <= 0 || e.Type == "" {
		return nil, nil, false
	}
	return &entry{pos: e.Position(), data: oneLine(data), closed: e.Type == progress.TypeClosed}, e, true
}

// acceptVersion takes one message: what is newer than the head takes its
// place. The mutex is held.
func (t *topic) acceptVersion(m message) {
	e, event, ok := newVersion(m.data)
	if !ok {
		t.hub.metrics.BadMessages.Add(1)
		t.stale = true
		return
	}
	head := t.ring.head()
	if !before(head, e.pos) {
		return // known already
	}
	e.received = m.received
	snap := t.ring.snap
	if snap.Advance(event) != nil {
		t.stale = true // the snapshot is not the head's
		return
	}
	t.hold(snap, []*entry{e})
	t.arrived = append(t.arrived, arrival{m.received, event.Time})
}

// hold makes the snapshot the topic's head. The mutex is held.
func (t *topic) hold(snap progress.Snapshot, entries []*entry) {
	if snap.Epoch != t.ring.head().Epoch {
		t.gen++ // another run: every viewer is placed anew
	}
	t.ring.hold(snap, entries)
	t.over.Store(snap.Seq == 0 || t.ring.closed())
	t.changed = true
}

// hold replaces everything by one version; entries are the event that it ends
// with, or none.
func (r *ring) hold(snap progress.Snapshot, entries []*entry) {
	r.base = snap.Position()
	r.base.Seq -= int64(len(entries))
	r.entries, r.bytes = entries, 0
	for _, e := range entries {
		r.bytes += e.size()
	}
	r.snap, r.broken, r.unread = snap, false, 0
	r.minHeld = r.base.Seq + 1
}

// fetchVersion reads the newest version.
func (t *topic) fetchVersion(ctx context.Context, _ int64) (progress.Snapshot, []*entry, error) {
	view, err := t.hub.readView(ctx, t.name.Name, 1)
	if err != nil {
		return view.Snapshot, nil, err
	}
	if n := len(view.Events); n > 0 {
		if e, _, ok := newVersion(view.Events[n-1].Data); ok && e.pos == view.Snapshot.Position() {
			return view.Snapshot, []*entry{e}, nil
		}
	}
	return view.Snapshot, nil, nil
}

// mergeVersion takes what was read, if it is newer. The mutex is held.
func (t *topic) mergeVersion(snap *progress.Snapshot, entries []*entry, _ int64) {
	if t.ready && !before(t.ring.head(), snap.Position()) {
		return
	}
	t.hold(*snap, entries)
	if !t.ready {
		t.ready, t.gen = true, t.gen+1
		close(t.opened)
	}
}

// settleVersion tells a viewer that is being placed what it has not been
// told, each time with a gap, and then finds its place. Topic.mu is held.
func (t *topic) settleVersion(v *viewer) (gap []byte) {
	if n := t.untold(v); n != nil {
		gap = t.gapOf(v, Gap{Reason: n.Kind, Since: n.Since.UTC(), Detail: n.Detail})
		v.noticed = n.number
		v.want.After, v.want.Bad = nil, false // the snapshot follows
		return gap
	}
	if reason := t.placeVersion(v); reason != "" {
		v.phase = snapshotting
		return t.gapFrame(v, reason)
	}
	return nil
}

// placeVersion has the viewer go on from its position, or with a snapshot. It
// returns the reason for a gap, or none: versions jump without one.
func (t *topic) placeVersion(v *viewer) Reason {
	head, w := t.ring.head(), v.want.After
	switch {
	case v.want.Bad:
		return ReasonBadPosition
	case w == nil, w.Epoch < head.Epoch:
		v.phase = snapshotting
		return ""
	case before(head, *w) && v.placed:
		return ReasonLost
	case before(head, *w):
		return ReasonFuture
	}
	if !v.placed {
		t.hub.metrics.Resumes.Add(1)
	}
	v.pos, v.placed, v.phase = *w, true, live
	if *w == head && head.Seq > 0 && t.ring.closed() && !v.stays && v.endsWith(t.ring.snap.RunID, t.ring.snap.Chain) {
		t.toEnd(v) // it has it already, and came before that was known
	}
	return ""
}
