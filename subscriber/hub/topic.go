package hub

import (
	"context"
	"sync"
	"sync/atomic"
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

	mu sync.Mutex
	// viewers are those that get every event; latest those that may skip.
	viewers []*viewer
	latest  latestState
	// inbox holds what the subscription brought and run has not yet taken.
	inbox      []message
	inboxBytes int
	// stale says that the stream has to be read from the head on; doubted,
	// that somebody wants it to be, but can wait until others do, too.
	stale, doubted bool
	// wanted is the lowest seq that somebody waits for; 0: nobody does.
	wanted int64
	// changed says that there may be something for viewers.
	changed bool
	ready   bool
	// gen counts the histories; a viewer with another gen is placed anew.
	gen  uint32
	ring ring
	tag  tagState
	// notices are those that are not over; told counts all there were.
	notices []pending
	told    uint32
	// over says that a sparse topic has nothing more to come for now.
	over atomic.Bool

	// begun counts the readings, finished is the newest that was merged, and
	// merged is closed with the next one.
	begun, finished uint64
	merged          chan struct{}

	// frames that all viewers at one place share
	snapFrames, bareFrames, endFrames [encodings]sharedFrame

	batches [encodings]sharedBatches
	// joined says that there may be copies among them, to be let go of.
	joined bool

	// arrived are the undelivered messages. Only run uses it.
	arrived []arrival
}

type message struct {
	data     []byte
	received time.Time
}

// arrival is when a message came, and when its event was made, by the
// writer's clock; zero is not known.
type arrival struct{ received, made time.Time }

// sharedFrame is a frame made for one position of one history.
type sharedFrame struct {
	gen   uint32
	pos   progress.Position
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

// doubt has the stream read soon, together for all who ask. The mutex is held.
func (t *topic) doubt() {
	t.doubted = true
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
	var retry, later <-chan time.Time
	var failures int
	var lastDoubt time.Time
	relist := t.relistTimer()
	defer relist.Stop()
	for ctx.Err() == nil {
		now := time.Now()
		t.mu.Lock()
		t.drainInbox()
		if t.changed {
			viewers = append(viewers[:0], t.viewers...)
			t.changed = false
			t.latest.due = true
		}
		var wait time.Duration
		viewers, wait = t.passLatest(viewers, now)
		reads := t.stale || t.wanted > 0
		if t.doubted && !reads {
			if rest := doubtEvery - now.Sub(lastDoubt); rest <= 0 {
				reads, lastDoubt = true, now
			} else if wait == 0 || rest < wait {
				wait = rest
			}
		}
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
		if wait > 0 && later == nil {
			later = time.After(wait)
		}
		select {
		case <-t.wake:
		case <-retry:
			retry = nil
		case <-later:
			later = nil
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
			t.hub.metrics.latency(now, at)
		}
	}
	t.arrived = t.arrived[:0]
	t.mu.Lock()
	if t.joined {
		t.joined = false
		for i := range t.batches {
			t.batches[i].release()
		}
	}
	t.mu.Unlock()
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
		switch {
		case t.name.Kind == progress.TopicTag:
			t.acceptTag(m)
		case t.hub.opts.Sparse:
			t.acceptVersion(m)
		default:
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
		t.arrived = append(t.arrived, arrival{m.received, scanTime(m.data)})
	case e.pos.Epoch == head.Epoch && e.pos.Seq <= head.Seq && t.ring.checkAt(e.pos.Seq) == e.pos.Check:
		// known already
	default:
		t.stale = true
	}
}

// add makes a viewer of the connection.
func (t *topic) add(c *Conn, w Want, stays bool) *viewer {
	w.Latest = w.Latest || t.hub.opts.Sparse && t.name.Kind == progress.TopicWorkflow
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.list(w.Latest)
	v := &viewer{conn: c, topic: t, want: w, stays: stays, gen: t.gen, index: len(*list), confirm: t.begun + 1}
	*list = append(*list, v)
	if w.Latest {
		// It may have come to a topic that has had no pass yet.
		t.latest.due = true
		t.signal()
	}
	return v
}

// remove ends a viewer.
func (t *topic) remove(v *viewer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if v.index < 0 {
		return
	}
	list := t.list(v.want.Latest)
	last := len(*list) - 1
	(*list)[v.index] = (*list)[last]
	(*list)[v.index].index = v.index
	(*list)[last] = nil
	*list = (*list)[:last]
	v.index = -1
}

func (t *topic) list(latest bool) *[]*viewer {
	if latest {
		return &t.latest.viewers
	}
	return &t.viewers
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

func (t *topic) updateFrame(e *entry, enc Encoding) []byte {
	if e.enc[enc] == nil {
		e.enc[enc] = encodeFrame(enc, t.name, KindUpdate, &e.pos, e.data)
		t.ring.bytes += len(e.enc[enc])
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
