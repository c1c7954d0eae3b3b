package hub

import (
	"context"
	"math"
	"math/rand/v2"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

// noSeq is above every seq: a read from there brings the snapshot alone.
const noSeq = math.MaxInt64 / 2

// readPage is how many events one read asks for.
const readPage = 1000

// maxReads bounds the reads of one fetch, should the stream run away from
// them; what was read until then counts.
const maxReads = 16

// doubtEvery is the least time between readings that are only to make sure:
// all who come meanwhile share the next one, so that thousands who come within
// a second cost a few.
const doubtEvery = 50 * time.Millisecond

// leastBack is how far back a reading for a resume goes at least.
const leastBack = 256

// read reads what the topic lacks and merges it. It does nothing but return
// an error when the source fails.
func (t *topic) read(ctx context.Context) error {
	if t.name.Kind == progress.TopicTag {
		return t.readTag(ctx)
	}
	t.mu.Lock()
	wanted, stale, doubted := t.wanted, t.stale, t.doubted
	from := t.readFrom()
	// Whatever asks for another read from now on gets one.
	t.wanted, t.stale, t.doubted = 0, false, false
	t.begun++
	number := t.begun
	t.mu.Unlock()

	fetch, merge := t.fetch, t.merge
	if t.hub.opts.Sparse {
		fetch, merge = t.fetchVersion, t.mergeVersion
	}
	snap, entries, err := fetch(ctx, from)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.stale, t.doubted = t.stale || stale, t.doubted || doubted
		if wanted > 0 {
			t.request(wanted)
		}
		return err
	}
	t.hub.metrics.Reads.Add(1)
	merge(&snap, entries, from)
	t.finished = number
	close(t.merged)
	t.merged = make(chan struct{})
	return nil
}

// readFrom returns the seq from which the stream is to be read. Those who
// resume come at many positions; each reading for one of them goes twice as
// far back as the ring reaches, so that a few readings, not one for each
// position, fill it. The mutex is held.
func (t *topic) readFrom() int64 {
	from := int64(noSeq)
	if !t.ready {
		for _, list := range [][]*viewer{t.viewers, t.latest.viewers} {
			for _, v := range list {
				if w := v.want.After; w != nil {
					from = min(from, max(1, w.Seq-leastBack))
				}
			}
		}
		return from
	}
	head := t.ring.head().Seq
	if t.stale || t.doubted {
		// The last known entry is read again, to compare it.
		from = max(1, head)
	}
	if t.wanted > 0 {
		back := max(leastBack, 2*int64(len(t.ring.entries)))
		from = max(1, min(from, t.wanted, head-back+1))
	}
	return from
}

// fetch reads the snapshot and the events from a seq on, as many as the ring
// may hold. Entries are without a hole and end at the snapshot, or are none.
// Where the stream does not reach from, at first or after it lost something,
// fetch brings what every new viewer needs.
func (t *topic) fetch(ctx context.Context, from int64) (progress.Snapshot, []*entry, error) {
	var events []progress.RawEvent
	var snap progress.Snapshot
	for range maxReads {
		view, err := t.hub.readView(ctx, t.name.Name, from+int64(len(events)))
		if err != nil {
			return snap, nil, err
		}
		if len(events) > 0 && view.Snapshot.Epoch != snap.Epoch {
			events = nil // another stream began between two pages
			continue
		}
		snap = view.Snapshot
		if snap.Seq == 0 {
			return snap, nil, nil
		}
		if low := snap.Seq - int64(t.ring.maxLen) + 1; from < low {
			from, events = low, nil // more than the ring may hold
			continue
		}
		if need := needs(&snap); from > snap.Seq && need <= snap.Seq {
			from, events = need, nil
			continue
		}
		if len(events) == 0 && len(view.Events) > 0 {
			from = view.Events[0].Seq // what was before is trimmed
		}
		events = append(events, view.Events...)
		if len(view.Events) == 0 || view.Events[len(view.Events)-1].Seq >= snap.Seq {
			break
		}
	}
	return snap, suffix(&snap, events), nil
}

// needs returns the first seq that a new viewer needs beside the snapshot.
func needs(snap *progress.Snapshot) int64 {
	switch {
	case snap.OutputFrom > 0:
		return snap.OutputFrom
	case snap.Closed():
		return snap.Seq // the end
	}
	return noSeq
}

// merge compares a reading with the ring. The same history is extended;
// another one replaces it, and every viewer is placed anew. Asked is the seq
// from which the reading began. The mutex is held.
func (t *topic) merge(snap *progress.Snapshot, entries []*entry, asked int64) {
	r := &t.ring
	head := r.head()
	switch {
	case !t.ready:
		r.adopt(*snap, entries)
		t.ready, t.gen = true, t.gen+1
		close(t.opened)
	case snap.Position() == head:
		r.extend(*snap, touching(r, entries))
	case head.Seq > 0 && snap.Epoch == head.Epoch && snap.Seq > head.Seq && holds(entries, head):
		r.extend(*snap, entries)
	default:
		// Redis lost something, or so much is new that it was trimmed.
		r.adopt(*snap, entries)
		t.gen++
	}
	if asked < noSeq {
		r.tried(asked)
	}
	t.changed = true
}

// holds reports whether the entries hold the event at pos, seq and check.
func holds(entries []*entry, pos progress.Position) bool {
	if len(entries) == 0 {
		return false
	}
	i := pos.Seq - entries[0].pos.Seq
	return i >= 0 && i < int64(len(entries)) && entries[i].pos == pos
}

// touching returns the entries if they reach the ring's beginning without a
// hole, else none: they cannot extend it.
func touching(r *ring, entries []*entry) []*entry {
	if len(entries) == 0 || entries[0].pos.Seq > r.base.Seq || entries[len(entries)-1].pos.Seq < r.base.Seq {
		return nil
	}
	return entries
}

// backoff returns how long to wait after so many failures in a row: up to
// two seconds, spread, so that topics do not come back all at once.
func backoff(failures int) time.Duration {
	d := min(50*time.Millisecond<<min(failures-1, 6), 2*time.Second)
	return d/2 + rand.N(d/2)
}
