package hub

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

// Options are the hub's settings. Zero values mean the defaults.
type Options struct {
	// RingLen and RingBytes bound the events that a topic holds; 2,048 and
	// 4 MiB. RingLen also bounds how far back a viewer can resume.
	RingLen   int
	RingBytes int
	// Linger is how long a topic stays after its last viewer; 10 s.
	Linger time.Duration
	// MaxLingering bounds the topics that stay without a viewer; 1,000. One
	// beyond it ends at once.
	MaxLingering int
	// CompareEvery is how often the heads of all topics are compared with
	// the store; 10 s.
	CompareEvery time.Duration
	// HeartbeatEvery is how often a connection gets a heartbeat; 15 s.
	HeartbeatEvery time.Duration
	// RelistEvery is how often a tag is listed again; 30 s.
	RelistEvery time.Duration
	// TagLimit is how many workflows a tag's listing has at most; 200.
	TagLimit int
	// SourceTimeout bounds one call of the source; 5 s.
	SourceTimeout time.Duration
	// MaxConns bounds connections and places together; 0: there is no bound.
	MaxConns int
	// Sparse is for a source whose seqs are versions: they may jump without a
	// loss, and their positions have no check. Every viewer is served as one
	// that may skip; see [Source].
	Sparse bool
	// LatestEvery is the least time between two passes over the viewers that
	// may skip; 100 ms.
	LatestEvery time.Duration
	// OnLatency gets the time from a message's arrival until it was written to
	// all viewers that could take it, and OnEventLatency that from the event's
	// own time, by its writer's clock, once for each event and not below 0.
	// Nil is nobody.
	OnLatency, OnEventLatency func(time.Duration)
	Logger                    *slog.Logger
}

func (o *Options) setDefaults() {
	def(&o.RingLen, 2048)
	def(&o.RingBytes, 4<<20)
	def(&o.Linger, 10*time.Second)
	def(&o.MaxLingering, 1000)
	def(&o.CompareEvery, 10*time.Second)
	def(&o.HeartbeatEvery, 15*time.Second)
	def(&o.RelistEvery, 30*time.Second)
	def(&o.TagLimit, 200)
	def(&o.SourceTimeout, 5*time.Second)
	def(&o.LatestEvery, 100*time.Millisecond)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func def[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

// heartbeatSlots spreads the heartbeats over their interval.
const heartbeatSlots = 15

// Hub holds topics and connections. Between Start and Stop it runs one
// goroutine per topic and two of its own.
type Hub struct {
	source  Source
	opts    Options
	metrics *Metrics

	ctx    context.Context
	cancel context.CancelFunc
	// loops counts the hub's own goroutines and those of topics; writers
	// those that wait for a socket; open the connections.
	loops, writers, open sync.WaitGroup

	mu     sync.RWMutex
	topics map[progress.Topic]*topic
	// leaving holds, by name, the newest topic that is on its way out.
	leaving map[progress.Topic]<-chan struct{}
	// lingering counts the topics without a viewer.
	lingering int
	conns     [heartbeatSlots]map[*Conn]struct{}
	byName    map[string]int
	count     int
	reserved  int // places that no connection has yet
	nextSlot  int
	draining  bool
}

// New returns a hub on a source, which must know where to send messages:
// see [Hub.Message].
func New(source Source, o Options) *Hub {
	o.setDefaults()
	h := &Hub{
		source: source, opts: o, metrics: newMetrics(o.OnLatency, o.OnEventLatency),
		topics: make(map[progress.Topic]*topic), leaving: make(map[progress.Topic]<-chan struct{}),
		byName: make(map[string]int),
	}
	for i := range h.conns {
		h.conns[i] = make(map[*Conn]struct{})
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// Start begins the periodic work and returns.
func (h *Hub) Start() {
	if !h.opts.Sparse { // there is no store behind it to compare with
		h.loops.Go(h.compareLoop)
	}
	h.loops.Go(h.heartbeatLoop)
}

// Drain ends every connection in an orderly way, lets no new one in, and
// waits for them until ctx ends; then it cuts what is left.
func (h *Hub) Drain(ctx context.Context) {
	h.mu.Lock()
	h.draining = true
	h.mu.Unlock()
	for _, c := range h.all() {
		c.Shut(CloseDrain)
	}
	done := make(chan struct{})
	go func() {
		h.open.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		for _, c := range h.all() {
			c.mu.Lock()
			c.fail(CloseDrain)
		}
		<-done // a cut socket ends its reader
	}
}

// Stop ends all topics and waits for every goroutine of the hub. Connections
// are to be drained before.
func (h *Hub) Stop() {
	h.cancel()
	h.mu.Lock()
	for _, t := range h.topics {
		if t.linger != nil {
			t.linger.Stop()
		}
	}
	h.mu.Unlock()
	h.loops.Wait()
	h.writers.Wait()
}

// Metrics returns the hub's counters.
func (h *Hub) Metrics() *Metrics { return h.metrics }

// Conns returns the number of connections, all or of one transport.
func (h *Hub) Conns(name string) int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if name == "" {
		return h.count
	}
	return h.byName[name]
}

// Topics returns the number of topics that are followed or linger.
func (h *Hub) Topics() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.topics)
}

// Message takes what was published on a topic. The hub keeps data, and changes
// nothing of it. It never blocks; what belongs to no topic is dropped.
func (h *Hub) Message(name progress.Topic, data []byte) {
	if t := h.topic(name); t != nil {
		t.receive(data)
	}
}

// Resync says that messages of a topic may have been lost. It never blocks.
func (h *Hub) Resync(name progress.Topic) {
	if t := h.topic(name); t != nil {
		t.resync()
	}
}

func (h *Hub) topic(name progress.Topic) *topic {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.topics[name]
}

// acquire returns the topic of that name, made and begun if need be. Every
// acquire has its release.
func (h *Hub) acquire(name progress.Topic) *topic {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.topics[name]
	if t == nil {
		t = &topic{
			hub: h, name: name, wake: make(chan struct{}, 1),
			done: make(chan struct{}), opened: make(chan struct{}), merged: make(chan struct{}),
			ring: ring{maxLen: h.opts.RingLen, maxBytes: h.opts.RingBytes},
		}
		ctx, cancel := context.WithCancel(h.ctx)
		t.cancel = cancel
		if h.ctx.Err() != nil {
			close(t.done) // stopped: a late request gets a topic that never opens
			t.refs++
			return t
		}
		before := h.leaving[name]
		h.topics[name] = t
		h.loops.Go(func() { t.run(ctx, before) })
	}
	t.refs++
	if t.linger != nil {
		t.linger.Stop()
		t.linger = nil
		h.lingering--
	}
	return t
}

// release gives a topic back. After the last release it lingers.
func (h *Hub) release(t *topic) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t.refs--
	if t.refs > 0 || h.ctx.Err() != nil {
		return
	}
	if h.lingering >= h.opts.MaxLingering {
		h.expire(t)
		return
	}
	h.lingering++
	var timer *time.Timer
	timer = time.AfterFunc(h.lingerOf(t), func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if t.linger == timer && t.refs == 0 {
			h.lingering--
			h.expire(t)
		}
	})
	t.linger = timer
}

// expire ends a topic that nobody holds. Hub.mu is held.
func (h *Hub) expire(t *topic) {
	delete(h.topics, t.name)
	h.leaving[t.name] = t.done
	t.cancel()
	if h.ctx.Err() != nil {
		return
	}
	h.loops.Go(func() {
		<-t.done
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.leaving[t.name] == (<-chan struct{})(t.done) {
			delete(h.leaving, t.name)
		}
	})
}

func (h *Hub) detach(v *viewer) {
	v.topic.remove(v)
	h.release(v.topic)
}

// register is called with the mutex held.
func (h *Hub) register(c *Conn) {
	c.slot = h.nextSlot
	h.nextSlot = (h.nextSlot + 1) % heartbeatSlots
	h.conns[c.slot][c] = struct{}{}
	h.byName[c.tr.Name()]++
	h.count++
	h.open.Add(1)
}

func (h *Hub) unregister(c *Conn, why CloseReason) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.conns[c.slot][c]; !ok {
		return
	}
	delete(h.conns[c.slot], c)
	h.byName[c.tr.Name()]--
	h.count--
	h.metrics.closes[why].Add(1)
	h.open.Done()
}

func (h *Hub) all() []*Conn {
	h.mu.RLock()
	defer h.mu.RUnlock()
	conns := make([]*Conn, 0, h.count)
	for _, slot := range h.conns {
		for c := range slot {
			conns = append(conns, c)
		}
	}
	return conns
}

func (h *Hub) heartbeatLoop() {
	tick := time.NewTicker(h.opts.HeartbeatEvery / heartbeatSlots)
	defer tick.Stop()
	for slot := 0; ; slot = (slot + 1) % heartbeatSlots {
		select {
		case <-tick.C:
		case <-h.ctx.Done():
			return
		}
		h.mu.RLock()
		conns := make([]*Conn, 0, len(h.conns[slot]))
		for c := range h.conns[slot] {
			conns = append(conns, c)
		}
		h.mu.RUnlock()
		for _, c := range conns {
			c.beat()
		}
	}
}

// add and readView bound one call of the source.

func (h *Hub) add(ctx context.Context, name progress.Topic) error {
	ctx, cancel := context.WithTimeout(ctx, h.opts.SourceTimeout)
	defer cancel()
	return h.source.Add(ctx, name)
}

func (h *Hub) readView(ctx context.Context, id string, from int64) (progress.View, error) {
	ctx, cancel := context.WithTimeout(ctx, h.opts.SourceTimeout)
	defer cancel()
	return h.source.Read(ctx, id, from, readPage)
}

func (h *Hub) readFailed(name progress.Topic, failures int, err error) {
	h.metrics.ReadFailures.Add(1)
	if failures == 1 {
		h.opts.Logger.Warn("the store cannot be read; viewers wait", "topic", name.Name, "error", err)
	}
}
