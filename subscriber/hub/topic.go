package hub

import (
	"context"
	"sync"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

// topic is what the hub holds of one workflow or tag. Its goroutine (run)
// subscribes, reads, and writes to the viewers.
type topic struct {
	hub  *Hub
	name progress.Topic
	// wake is signalled when there is something to do.
	wake   chan struct{}
	cancel context.CancelFunc
	done   chan struct{} // closed when run has returned
	// opened is closed when the first reading is in.
	opened chan struct{}

	// refs counts who holds the topic; linger ends it a while after the last
	// one. Guarded by Hub.mu.
	refs   int
	linger *time.Timer

	mu      sync.Mutex
	viewers []*viewer
	// inbox holds what the subscription brought and run has not yet taken.
	inbox      []message
	inboxBytes int
	// stale says that the stream has to be read from the head on.
	stale bool
	// wanted is the lowest seq that somebody waits for; 0: nobody does.
	wanted int64
	// changed says that there may be something for viewers.
	changed bool
	ready   bool
	// gen counts the histories; a viewer with another gen is placed anew.
	gen  uint32
	ring ring
	tag  tagState

	// begun counts the readings, finished is the newest that was merged, and
	// merged is closed with the next one.
	begun, finished uint64
	merged          chan struct{}

	// frames that all viewers at one place share
	snapFrames, endFrames [encodings]sharedFrame
	batch                 sharedBatch

	// arrived is when the oldest undelivered message came. Only run uses it.
	arrived []time.Time
}

type message struct {
	data     []byte
	received time.Time
}

// sharedFrame is a frame made for one position of one history.
type sharedFrame struct {
	gen   uint32
	pos   progress.Position
	bytes []byte
}

// sharedBatch is the updates from one seq to another in one piece.
type sharedBatch struct {
	gen      uint32
	enc      Encoding
	from, to int64
	// full says that what comes after to does not belong to the batch.
	full  bool
	bytes []byte
}

// The bounds of an inbox. Beyond them it is dropped and the stream is read.
const (
	maxInbox      = 4096
	maxInboxBytes = 8 << 20
)

// receive takes a message from the subscription; it never blocks.
func (t *topic) receive(data []byte) {
	t.mu.Lock()
	if len(t.inbox) >= maxInbox || t.inboxBytes+len(data) > maxInboxBytes {
		t.inbox, t.inboxBytes, t.stale = nil, 0, true
		t.hub.metrics.InboxDropped.Add(1)
	} else {
		t.inbox = append(t.inbox, message{data: data, received: time.Now()})
		t.inboxBytes += len(data)
	}
	t.mu.Unlock()
	t.signal()
}

func (t *topic) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// resync has the stream read, since messages may have been lost.
func (t *topic) resync() {
	t.mu.Lock()
	t.reread()
	t.mu.Unlock()
}

// reread has the stream read from the head on. The mutex is held.
func (t *topic) reread() {
	t.stale = true
	t.signal()
}

// request has the stream read from an older seq on. The mutex is held.
func (t *topic) request(seq int64) {
	if t.wanted == 0 || seq < t.wanted {
		t.wanted = seq
	}
	t.signal()
}

// run is the topic's goroutine.
func (t *topic) run(ctx context.Context, before <-chan struct{}) {
	defer close(t.done)
	if before != nil {
		<-before // an earlier topic of this name removes its subscription
	}
	defer t.hub.source.Remove(t.name)
	if !t.subscribe(ctx) {
		return
	}
	t.mu.Lock()
	t.stale = true
	t.mu.Unlock()

	var viewers []*viewer
	var retry <-chan time.Time
	var failures int
	relist := t.relistTimer()
	defer relist.Stop()
	for ctx.Err() == nil {
		t.mu.Lock()
		t.drainInbox()
		if t.changed {
			viewers = append(viewers[:0], t.viewers...)
			t.changed = false
		}
		reads := t.stale || t.wanted > 0
		t.mu.Unlock()

		t.round(viewers)
		clear(viewers)
		viewers = viewers[:0]

		if reads && retry == nil {
			if err := t.read(ctx); err == nil {
				failures = 0
				continue
			} else if ctx.Err() == nil {
				failures++
				t.hub.readFailed(t.name, failures, err)
				retry = time.After(backoff(failures))
			}
		}
		select {
		case <-t.wake:
		case <-retry:
			retry = nil
		case <-relist.C:
			t.resync()
			relist.Reset(t.hub.opts.RelistEvery)
		case <-ctx.Done():
		}
	}
}

// round writes to the viewers what there is for them. Whatever arrives
// meanwhile goes out together in the next round.
func (t *topic) round(viewers []*viewer) {
	for _, v := range viewers {
		v.conn.kick()
	}
	if len(t.arrived) == 0 {
		return
	}
	if len(viewers) > 0 {
		now := time.Now()
		for _, at := range t.arrived {
			t.hub.metrics.latency(now.Sub(at))
		}
	}
	t.arrived = t.arrived[:0]
}

// subscribe returns once the subscription is confirmed.
func (t *topic) subscribe(ctx context.Context) bool {
	for failures := 1; ; failures++ {
		err := t.hub.add(ctx, t.name)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		t.hub.readFailed(t.name, failures, err)
		select {
		case <-time.After(backoff(failures)):
		case <-ctx.Done():
			return false
		}
	}
}

// drainInbox puts what arrived into the ring. The mutex is held.
func (t *topic) drainInbox() {
	if !t.ready {
		return // it is compared with the first reading
	}
	for i, m := range t.inbox {
		if t.name.Kind == progress.TopicTag {
			t.acceptTag(m)
		} else {
			t.accept(m)
		}
		t.inbox[i] = message{}
	}
	t.inbox, t.inboxBytes = t.inbox[:0], 0
}

// accept takes one message: it follows the head exactly, or is known
// already, or leads to reading the stream.
func (t *topic) accept(m message) {
	e, ok := newEntry(m.data)
	if !ok {
		t.hub.metrics.BadMessages.Add(1)
		t.stale = true
		return
	}
	head := t.ring.head()
	switch {
	case follows(head, e.pos, m.data):
		e.received = m.received
		t.ring.push(e)
		t.changed = true
		t.arrived = append(t.arrived, m.received)
	case e.pos.Epoch == head.Epoch && e.pos.Seq <= head.Seq && t.ring.checkAt(e.pos.Seq) == e.pos.Check:
		// known already
	default:
		t.stale = true
	}
}

// add makes a viewer of the connection.
func (t *topic) add(c *Conn, w Want, stays bool) *viewer {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := &viewer{conn: c, topic: t, want: w, stays: stays, gen: t.gen, index: len(t.viewers), confirm: t.begun + 1}
	t.viewers = append(t.viewers, v)
	return v
}

// remove ends a viewer.
func (t *topic) remove(v *viewer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if v.index < 0 {
		return
	}
	last := len(t.viewers) - 1
	t.viewers[v.index] = t.viewers[last]
	t.viewers[v.index].index = v.index
	t.viewers[last] = nil
	t.viewers = t.viewers[:last]
	v.index = -1
}

// maxBatch bounds what one write takes, and with it what one slow viewer
// keeps from being freed; a single larger frame goes alone.
const maxBatch = 64 << 10

// maxCopied is the largest frame that is copied to go out with others.
const maxCopied = 4 << 10

// next returns what the viewer's connection, which has this topic alone, is
// to write next, or nil. The bytes are shared and must not be changed. Then
// is a frame to write behind them, too large to be copied for each viewer.
func (t *topic) next(v *viewer) (batch, then []byte, end bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ready && t.name.Kind != progress.TopicTag {
		gap, ok := t.settle(v)
		if !ok {
			return nil, nil, false
		}
		if gap != nil {
			t.hub.metrics.Deliveries.Add(1)
			batch = gap
		} else if b, n := t.updates(v); n > 0 {
			t.hub.metrics.Deliveries.Add(int64(n))
			return b, nil, false
		}
	}
	owned := false // batch is a copy of this viewer's own, with room to grow
	for len(batch) < maxBatch {
		frame, _ := t.step(v)
		if frame == nil {
			break
		}
		t.hub.metrics.Deliveries.Add(1)
		switch {
		case batch == nil:
			batch = frame
		case len(frame) > maxCopied:
			return batch, frame, v.phase == ended
		case !owned:
			owned = true
			batch = append(append(make([]byte, 0, 2*(len(batch)+len(frame))), batch...), frame...)
		default:
			batch = append(batch, frame...)
		}
	}
	return batch, nil, v.phase == ended
}

// updates is the way of nearly every delivery: all that follows the viewer's
// position, in one piece that viewers at the same place share.
func (t *topic) updates(v *viewer) ([]byte, int) {
	r := &t.ring
	head := r.head().Seq
	if !t.ready || v.phase != live || v.gen != t.gen || v.want.Run != "" || v.want.Latest ||
		t.name.Kind == progress.TopicTag || v.pos.Seq < r.base.Seq || v.pos.Seq >= head {
		return nil, 0
	}
	enc := v.conn.enc
	from := v.pos.Seq + 1
	if s := &t.batch; s.gen == t.gen && s.enc == enc && s.from == from && (s.to == head || s.full) {
		v.pos = r.at(s.to).pos
		return s.bytes, int(s.to - s.from + 1)
	}
	size, to := 0, from-1
	for to < head {
		e := r.at(to + 1)
		if e.closed {
			break
		}
		frame := t.updateFrame(e, enc)
		if size > 0 && size+len(frame) > maxBatch {
			break
		}
		size += len(frame)
		to++
	}
	if to < from {
		return nil, 0
	}
	bytes := t.updateFrame(r.at(from), enc)
	if to > from {
		joined := make([]byte, 0, size)
		for seq := from; seq <= to; seq++ {
			joined = append(joined, r.at(seq).enc[enc]...)
		}
		bytes = joined
	}
	t.batch = sharedBatch{gen: t.gen, enc: enc, from: from, to: to, full: to < head, bytes: bytes}
	v.pos = r.at(to).pos
	return bytes, int(to - from + 1)
}

func (t *topic) updateFrame(e *entry, enc Encoding) []byte {
	if e.enc[enc] == nil {
		e.enc[enc] = encodeFrame(enc, t.name, KindUpdate, &e.pos, e.data)
	}
	return e.enc[enc]
}

// endFrame returns the end that the head is.
func (t *topic) endFrame(enc Encoding) []byte {
	return t.shared(&t.endFrames[enc], t.ring.head(), func(pos *progress.Position) []byte {
		return encodeFrame(enc, t.name, KindEnd, pos, t.ring.closedEvent())
	})
}

// endOf returns the end that an entry is.
func (t *topic) endOf(e *entry, enc Encoding) []byte {
	return t.shared(&t.endFrames[enc], e.pos, func(pos *progress.Position) []byte {
		return encodeFrame(enc, t.name, KindEnd, pos, e.data)
	})
}

func (t *topic) shared(f *sharedFrame, pos progress.Position, make func(*progress.Position) []byte) []byte {
	if f.bytes == nil || f.gen != t.gen || f.pos != pos {
		*f = sharedFrame{gen: t.gen, pos: pos, bytes: make(&pos)}
	}
	return f.bytes
}

// snapshotFrame returns the snapshot at the head, with the records of the
// open outputs, or nil while something for it is being read.
func (t *topic) snapshotFrame(enc Encoding) []byte {
	r := &t.ring
	snap, ok := r.snapshot()
	if !ok {
		t.reread()
		return nil
	}
	if from := snap.OutputFrom; from > 0 && from <= r.base.Seq && from >= r.readable() {
		t.request(from)
		return nil
	}
	return t.shared(&t.snapFrames[enc], r.head(), func(pos *progress.Position) []byte {
		s := *snap
		if s.Seq == 0 {
			s.V, s.WorkflowID = progress.Version, t.name.Name
		}
		s.Records = nil
		if from := s.OutputFrom; from > 0 {
			if r.base.Seq >= from {
				// Not all of the output is to be had. The snapshot says so.
				s.FirstSeq = max(s.FirstSeq, r.base.Seq+1)
			}
			for _, e := range r.entries[max(0, from-r.base.Seq-1):] {
				if e.about().Type.IsRecord() {
					s.Records = append(s.Records, e.data)
				}
			}
		}
		return encodeFrame(enc, t.name, KindSnapshot, pos, marshal(&s))
	})
}
