package hub

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/runcast/runcast/pkg/progress"
)

// Transport is the socket side of a connection. Only the owner of the write
// side calls TryWrite and Write; see Conn.
type Transport interface {
	// Name is "sse" or "ws", for metrics.
	Name() string
	// Encoding is the form of the frames.
	Encoding() Encoding
	// Direct reports whether TryWrite may be used. If not, somebody runs
	// [Conn.Serve] for as long as the connection lives.
	Direct() bool
	// TryWrite writes what the socket takes at once. It never blocks.
	TryWrite(p []byte) (int, error)
	// Write writes all of p, or returns how much of it and an error once the
	// socket has taken nothing for the write deadline.
	Write(p []byte) (int, error)
	// Heartbeat returns what keeps an idle connection open, or false when
	// the peer has not answered earlier ones.
	Heartbeat() ([]byte, bool)
	// Farewell returns whole frames that are the last before a Finish for
	// this reason, or that are tried once before an Abort.
	Farewell(why CloseReason) []byte
	// Finish closes the connection in an orderly way, after everything was
	// written. It returns at once.
	Finish(why CloseReason)
	// Abort closes the connection at once.
	Abort(why CloseReason)
}

// CloseReason says why a connection ended, in metrics and to the transport.
type CloseReason string

// The reasons.
const (
	// CloseEnd: the chain ended and the viewer has its end.
	CloseEnd CloseReason = "end"
	// CloseClient: the client went away.
	CloseClient CloseReason = "client"
	// CloseSlow: the socket took nothing for the write deadline.
	CloseSlow CloseReason = "slow"
	// CloseDead: the peer answered no heartbeat.
	CloseDead CloseReason = "dead"
	// CloseControl: the client caused more control frames than it took.
	CloseControl CloseReason = "control_overflow"
	// CloseDrain: this node stops.
	CloseDrain CloseReason = "drain"
	// CloseProtocol: the client broke the protocol.
	CloseProtocol CloseReason = "protocol"
)

// CloseReasons lists all of them, for metrics that show zeros too.
var CloseReasons = []CloseReason{
	CloseEnd, CloseClient, CloseSlow, CloseDead, CloseControl, CloseDrain, CloseProtocol,
}

// ErrConnClosed is returned for what comes too late for a connection.
var ErrConnClosed = errors.New("the connection is closed")

// maxControl bounds the bytes of control frames that wait for the socket.
const maxControl = 4 << 10

type connState uint8

const (
	connOpen connState = iota
	// connFinishing: what is left is written, then the transport finishes.
	connFinishing
	// connFinished: the transport closes; only control bytes are written.
	connFinished
	connDead
)

// Conn is one connection: the cursors of its viewers, and the write side of
// its socket. The write side has one owner at any time: whoever holds mu
// with writing false, or, with writing true, the goroutine that waits for
// the socket.
type Conn struct {
	hub *Hub
	tr  Transport
	enc Encoding
	// wake tells Serve that there may be something. Nil when direct.
	wake chan struct{}
	slot int // of the heartbeats

	mu      sync.Mutex
	state   connState
	why     CloseReason
	writing bool
	// part is what is left of the last batch: it goes out before anything
	// else, so that frames are never broken. It is shared, not copied.
	part []byte
	// then is a shared frame that comes right behind part.
	then []byte
	// ctrl is whole control frames, bounded by maxControl.
	ctrl    []byte
	viewers []*viewer
	// turn is the viewer that loadMany begins with.
	turn int
	// ids says that frames of SSEMany carry a composite id.
	ids bool
}

// Follow adds a topic to the connection. Following a topic that it follows
// already begins it anew from the given place. Of a connection whose
// encoding names topics, the viewers stay after an end.
func (c *Conn) Follow(name progress.Topic, w Want) error {
	t := c.hub.acquire(name)
	c.mu.Lock()
	if c.state != connOpen {
		c.mu.Unlock()
		c.hub.release(t)
		return ErrConnClosed
	}
	old := c.take(name)
	c.viewers = append(c.viewers, t.add(c, w, c.enc.many()))
	c.mu.Unlock()
	if old != nil {
		c.hub.detach(old)
	}
	c.kick()
	return nil
}

// take takes the topic's viewer off the list, or returns nil. The mutex is
// held.
func (c *Conn) take(name progress.Topic) *viewer {
	i := slices.IndexFunc(c.viewers, func(v *viewer) bool { return v.topic.name == name })
	if i < 0 {
		return nil
	}
	v := c.viewers[i]
	c.viewers = slices.Delete(c.viewers, i, i+1)
	return v
}

// Unfollow removes a topic; it reports whether there was one.
func (c *Conn) Unfollow(name progress.Topic) bool {
	c.mu.Lock()
	v := c.take(name)
	c.mu.Unlock()
	if v == nil {
		return false
	}
	c.hub.detach(v)
	return true
}

// Topics returns how many topics the connection follows.
func (c *Conn) Topics() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.viewers)
}

// NoIDs makes frames of a many-topic SSE connection carry no id.
func (c *Conn) NoIDs() { c.ids = false }

// Control queues whole control frames, or other whole messages that are no
// topic's, behind what is being written. It never blocks.
func (c *Conn) Control(p []byte) error {
	c.mu.Lock()
	if c.state == connDead {
		c.mu.Unlock()
		return ErrConnClosed
	}
	if len(c.ctrl)+len(p) > maxControl {
		c.fail(CloseControl)
		return ErrConnClosed
	}
	c.ctrl = append(c.ctrl, p...)
	c.mu.Unlock()
	c.kick()
	return nil
}

// Shut ends the connection after what there is for it was written.
func (c *Conn) Shut(why CloseReason) {
	c.kick()
	c.mu.Lock()
	if c.state == connOpen {
		c.finishing(why)
	}
	c.mu.Unlock()
	c.kick()
}

// finishing lets no more frames in. The mutex is held.
func (c *Conn) finishing(why CloseReason) {
	c.state, c.why = connFinishing, why
	c.ctrl = append(c.ctrl, c.tr.Farewell(why)...)
}

// Closed says that the socket is gone. Why counts unless the connection was
// ended from this side.
func (c *Conn) Closed(why CloseReason) {
	c.mu.Lock()
	if c.why == "" {
		c.why = why
	}
	why = c.why
	c.state = connDead
	viewers := c.viewers
	c.viewers, c.part, c.then, c.ctrl = nil, nil, nil, nil
	c.mu.Unlock()
	for _, v := range viewers {
		c.hub.detach(v)
	}
	c.hub.unregister(c, why)
	if c.wake != nil {
		c.signal()
	}
}

// fail closes the connection at once. The mutex is held, and released.
func (c *Conn) fail(why CloseReason) {
	if c.state == connDead {
		c.mu.Unlock()
		return
	}
	c.state = connDead
	if c.why == "" {
		c.why = why
	}
	if last := c.tr.Farewell(why); last != nil && c.wake == nil && !c.writing {
		// Tried once; a socket that is full does not take it.
		_, _ = c.tr.TryWrite(slices.Concat(c.part, last))
	}
	c.part, c.then, c.ctrl = nil, nil, nil
	c.mu.Unlock()
	c.tr.Abort(why)
	if c.wake != nil {
		c.signal()
	}
}

func (c *Conn) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// kick writes what there is, as far as the socket takes it at once; the rest
// is left to a goroutine that waits for the socket. It never blocks: it is
// what the topic's goroutine calls for each viewer.
func (c *Conn) kick() {
	if c.wake != nil {
		c.signal()
		return
	}
	c.mu.Lock()
	if c.writing {
		c.mu.Unlock()
		return
	}
	for c.load() {
		n, err := c.tr.TryWrite(c.part)
		if err != nil {
			c.fail(CloseClient)
			return
		}
		if n < len(c.part) {
			c.part = c.part[n:]
			c.writing = true
			c.hub.writers.Add(1)
			go c.await()
			break
		}
		c.part = nil
	}
	finish, why := c.finish()
	c.mu.Unlock()
	if finish {
		c.tr.Finish(why)
	}
}

// await waits for the socket, and goes on until there is nothing left.
func (c *Conn) await() {
	defer c.hub.writers.Done()
	c.hub.metrics.SocketFull.Add(1)
	c.drain()
}

// ServeInBackground is Serve in a goroutine that [Hub.Stop] waits for.
func (c *Conn) ServeInBackground() {
	c.hub.writers.Go(func() { c.Serve(context.Background()) })
}

// Serve writes for a connection that is not direct, until it is over.
func (c *Conn) Serve(ctx context.Context) {
	c.mu.Lock()
	c.writing = true
	c.mu.Unlock()
	for {
		if !c.drain() {
			return
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			return
		}
	}
}

// drain writes, blocking, until there is nothing left. It reports whether
// the connection is still open. The caller owns the write side; of a direct
// connection drain gives it back.
func (c *Conn) drain() bool {
	c.mu.Lock()
	for c.load() {
		part := c.part
		c.mu.Unlock()
		n, err := c.tr.Write(part)
		c.mu.Lock()
		c.part = part[n:]
		if err != nil {
			why := CloseClient
			if isTimeout(err) {
				why = CloseSlow
			}
			c.writing = c.wake != nil
			c.fail(why)
			return false
		}
	}
	c.writing = c.wake != nil
	open := c.state == connOpen || c.state == connFinished
	finish, why := c.finish()
	c.mu.Unlock()
	if finish {
		c.tr.Finish(why)
		// Of a WebSocket, control frames may follow.
		open = c.enc == WebSocket || c.enc == WebSocketMany
	}
	return open
}

// finish reports whether the transport is to finish now: once, when all is
// written. The mutex is held.
func (c *Conn) finish() (bool, CloseReason) {
	if c.state != connFinishing || len(c.part)+len(c.then) > 0 || (c.writing && c.wake == nil) {
		return false, ""
	}
	c.state = connFinished
	return true, c.why
}

// load makes sure that part is what is to be written next; it returns false
// when there is nothing. The mutex is held.
func (c *Conn) load() bool {
	if c.state == connDead {
		return false
	}
	if len(c.part) > 0 {
		return true
	}
	if len(c.then) > 0 {
		c.part, c.then = c.then, nil
		return true
	}
	var frames []byte
	if c.state == connOpen {
		switch {
		case c.enc.many():
			frames = c.loadMany()
		case len(c.viewers) > 0:
			var end bool
			v := c.viewers[0]
			if frames, c.then, end = v.topic.next(v); end {
				// Farewells come after frames, control frames before.
				frames = slices.Concat(c.ctrl, frames)
				c.ctrl = nil
				c.finishing(CloseEnd)
				if len(c.ctrl) > 0 {
					c.then = slices.Concat(c.then, c.ctrl)
					c.ctrl = nil
				}
			}
		}
	}
	if len(c.ctrl) > 0 {
		frames = slices.Concat(c.ctrl, frames)
		c.ctrl = nil
	}
	c.part = frames
	return len(frames) > 0
}

// loadMany takes frames from all topics in turn, about maxBatch at a time. A
// single frame without an id of this connection's own is shared, not copied.
func (c *Conn) loadMany() []byte {
	var p []byte
	owned := false
	// Idle counts the viewers since the last one that had a frame.
	for idle := 0; idle < len(c.viewers) && len(p) < maxBatch; c.turn++ {
		v := c.viewers[c.turn%len(c.viewers)]
		v.topic.mu.Lock()
		frame, moved := v.topic.step(v)
		v.topic.mu.Unlock()
		if frame == nil {
			idle++
			continue
		}
		idle = 0
		c.hub.metrics.Deliveries.Add(1)
		id := moved && c.enc == SSEMany && c.ids
		if p == nil && !id {
			p = frame
			continue
		}
		if !owned {
			owned = true
			p = append(make([]byte, 0, 2*(len(p)+len(frame))), p...)
		}
		if id {
			p = c.appendID(p)
		}
		p = append(p, frame...)
	}
	return p
}

// appendID appends the id line of a many-topic SSE frame: the positions of
// all workflows in the order of the request, empty where nothing was
// delivered yet. A viewer's position changes only in step, which only its
// connection calls, with its mutex held.
func (c *Conn) appendID(p []byte) []byte {
	p = append(p, "id: "...)
	first := true
	for _, v := range c.viewers {
		if v.topic.name.Kind == progress.TopicTag {
			continue
		}
		if !first {
			p = append(p, ',')
		}
		first = false
		switch {
		case v.placed:
			p = v.pos.Append(p)
		case v.want.After != nil:
			p = v.want.After.Append(p)
		}
	}
	return append(p, '\n')
}

// beat sends a heartbeat, unless the socket is busy anyway.
func (c *Conn) beat() {
	c.mu.Lock()
	if c.state != connOpen || (c.writing && c.wake == nil) || len(c.ctrl) > 0 {
		c.mu.Unlock()
		return
	}
	p, alive := c.tr.Heartbeat()
	if !alive {
		c.fail(CloseDead)
		return
	}
	c.ctrl = append(c.ctrl, p...)
	c.mu.Unlock()
	c.kick()
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// Follows reports whether the connection follows a topic.
func (c *Conn) Follows(name progress.Topic) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.viewers, func(v *viewer) bool { return v.topic.name == name })
}
