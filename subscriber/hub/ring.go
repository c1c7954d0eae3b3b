package hub

import (
	"encoding/json"
	"slices"

	"github.com/runcast/runcast/pkg/progress"
)

// ring holds the newest events of one workflow, without holes, and the fold
// up to them. Whoever uses it holds the topic's mutex.
type ring struct {
	// maxLen and maxBytes bound entries; at least one entry is always held.
	maxLen   int
	maxBytes int

	// base is the position right before the first entry. Its check is empty
	// where it is not known.
	base    progress.Position
	entries []*entry
	bytes   int
	// snap is the fold up to some event between base and the head; the rest
	// is folded when a snapshot is wanted, or before an entry leaves.
	snap progress.Snapshot
	// broken says that an event could not be folded: snap has to be read.
	broken bool
	// minHeld is the lowest seq that a read might still bring.
	minHeld int64
	// unread counts the events since the last reading, during which the
	// stream may have been trimmed.
	unread int
}

// head returns the newest known position.
func (r *ring) head() progress.Position {
	if n := len(r.entries); n > 0 {
		return r.entries[n-1].pos
	}
	return r.base
}

// at returns the entry with the given seq, or nil.
func (r *ring) at(seq int64) *entry {
	i := seq - r.base.Seq - 1
	if i < 0 || i >= int64(len(r.entries)) {
		return nil
	}
	return r.entries[i]
}

// checkAt returns the check at a seq, or "" where it is not known.
func (r *ring) checkAt(seq int64) string {
	if seq == r.base.Seq {
		return r.base.Check
	}
	if e := r.at(seq); e != nil {
		return e.pos.Check
	}
	return ""
}

// push appends the event that follows the head.
func (r *ring) push(e *entry) {
	if r.head().IsZero() {
		r.base = progress.Position{Epoch: e.pos.Epoch}
	}
	r.entries = append(r.entries, e)
	r.bytes += e.size()
	r.unread++
	r.evict()
}

// evict drops the oldest entries beyond the bounds.
func (r *ring) evict() {
	for len(r.entries) > 1 && (len(r.entries) > r.maxLen || r.bytes > r.maxBytes) {
		e := r.entries[0]
		if r.snap.Seq < e.pos.Seq {
			r.fold(e.pos.Seq)
		}
		r.base = e.pos
		r.bytes -= e.size()
		r.entries[0] = nil
		r.entries = r.entries[1:]
	}
}

// fold brings the snapshot up to seq.
func (r *ring) fold(seq int64) {
	for !r.broken && r.snap.Seq < seq {
		e := r.at(r.snap.Seq + 1)
		if e == nil {
			r.broken = true
			return
		}
		var event progress.Event
		if err := json.Unmarshal(e.data, &event); err != nil {
			r.broken = true
			return
		}
		if err := r.snap.Apply(&event); err != nil {
			r.broken = true
		}
	}
}

// snapshot returns the fold of everything up to the head, or false when it
// has to be read.
func (r *ring) snapshot() (*progress.Snapshot, bool) {
	r.fold(r.head().Seq)
	return &r.snap, !r.broken
}

// adopt replaces everything by what was read. Entries end at the snapshot.
func (r *ring) adopt(snap progress.Snapshot, entries []*entry) {
	r.base = snap.Position()
	r.entries, r.bytes = nil, 0
	if len(entries) > 0 {
		// The check before the first one is not known, unless it is the
		// stream's beginning.
		r.base = progress.Position{Epoch: snap.Epoch, Seq: entries[0].pos.Seq - 1}
	}
	r.minHeld = 1
	r.take(snap, entries)
}

// extend adds what was read of the same history: newer entries at the end,
// older ones at the beginning. Entries end at the snapshot and overlap, or
// touch, what the ring holds.
func (r *ring) extend(snap progress.Snapshot, entries []*entry) {
	older, _ := slices.BinarySearchFunc(entries, r.base.Seq+1, bySeq)
	newer, _ := slices.BinarySearchFunc(entries, r.head().Seq+1, bySeq)
	if older > 0 {
		r.base = progress.Position{Epoch: snap.Epoch, Seq: entries[0].pos.Seq - 1}
	}
	all := slices.Concat(entries[:older], r.entries, entries[newer:])
	r.entries, r.bytes = nil, 0
	r.take(snap, all)
}

func bySeq(e *entry, seq int64) int {
	return int(max(-1, min(1, e.pos.Seq-seq)))
}

// take sets entries and snapshot, which belong together.
func (r *ring) take(snap progress.Snapshot, entries []*entry) {
	r.entries = entries
	for _, e := range entries {
		r.bytes += e.size()
	}
	r.snap, r.broken, r.unread = snap, false, 0
	if snap.FirstSeq > 0 {
		r.minHeld = max(r.minHeld, snap.FirstSeq)
	} else {
		r.minHeld = max(r.minHeld, snap.Seq+1)
	}
	before := r.base.Seq
	r.evict()
	if r.base.Seq > before {
		r.minHeld = max(r.minHeld, r.base.Seq+1) // it does not fit
	}
}

// tried notes that a read from seq brought all it could.
func (r *ring) tried(seq int64) {
	if first := r.base.Seq + 1; first > seq {
		r.minHeld = max(r.minHeld, first)
	}
}

// closed reports whether the head is the end of a chain.
func (r *ring) closed() bool {
	if n := len(r.entries); n > 0 {
		return r.entries[n-1].closed
	}
	return r.snap.Closed()
}

// closedEvent returns the event that ended the chain at the head, in wire
// form. The stream may have expired before the hash: then it is made from
// what the hash says.
func (r *ring) closedEvent() []byte {
	if n := len(r.entries); n > 0 {
		return r.entries[n-1].data
	}
	s := &r.snap
	return marshal(&progress.Event{
		Epoch: s.Epoch, Seq: s.Seq, Check: s.Check, WorkflowID: s.WorkflowID, RunID: s.RunID, Chain: s.Chain,
		Type: progress.TypeClosed, Time: s.ClosedAt, Status: s.Status, Error: s.Error,
	})
}

// suffix returns the events that lead without a hole up to the snapshot, as
// entries. What is unreadable or of another history ends it.
func suffix(snap *progress.Snapshot, events []progress.RawEvent) []*entry {
	entries := make([]*entry, len(events))
	first := len(events)
	for i := len(events) - 1; i >= 0; i-- {
		e, ok := newEntry(events[i].Data)
		want := snap.Seq - int64(len(events)-1-i)
		if !ok || e.pos.Epoch != snap.Epoch || e.pos.Seq != want ||
			(e.pos.Seq == snap.Seq && e.pos.Check != snap.Check) {
			break
		}
		entries[i], first = e, i
	}
	return entries[first:]
}
