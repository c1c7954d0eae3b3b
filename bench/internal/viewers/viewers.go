// Package viewers holds thousands of viewers of a stream of progress in one
// thread: it opens their connections, reads what the server sends to each,
// and checks that none misses an event or gets one twice.
package viewers

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/runcast/runcast/bench/internal/latency"
)

// The bounds.
const (
	// MaxViewers is how many connections there may be.
	MaxViewers = 19_000
	maxFrame   = 1 << 20
	// maxOpening is how many connections are being opened at a time.
	maxOpening = 512
)

// Config says which viewers there are.
type Config struct {
	// Server is the address, of this machine's loopback.
	Server string
	// WebSocket: viewers connect to …/ws, else to …/stream; Mixed: every other
	// viewer has the other transport.
	WebSocket, Mixed bool
	// Secure is how they connect; the zero value is in the clear.
	Secure Secure
	// Latest: viewers ask for the newest state only. What is skipped is not
	// lost then.
	Latest bool
	// Viewers is how many there are, at most MaxViewers. Viewer i follows
	// Workflows[i % len(Workflows)].
	Viewers   int
	Workflows []string
	// FirstFrame: a viewer is ready once it has the first frame, which tells
	// where it is; else once its request is answered.
	FirstFrame bool
	// Spread has the connections begun evenly over that time, whether earlier
	// ones are ready or not, and waits counted from when each was due. Zero: a
	// bounded number is under way at a time.
	Spread time.Duration
	// Timed is the type of events whose latency counts; empty: of all.
	Timed string
}

// Place is a position and the seq in it.
type Place struct {
	Seq  int64
	Text string
}

// Counts are what viewers saw since the last [Viewers.Begin].
type Counts struct {
	// Delivered counts events; with the Lost ones it is what was published.
	Delivered int64 `json:"delivered"`
	// Lost events were skipped: the viewer's next seq was a later one.
	Lost int64 `json:"lost"`
	// Duplicates came again, or after a later one.
	Duplicates int64 `json:"duplicates"`
	// Skipped events were merged into later ones, where viewers want the latest
	// only.
	Skipped int64 `json:"skipped,omitempty"`
	// Gaps are gap frames.
	Gaps int64 `json:"gaps"`
	// Closed connections were ended by the server.
	Closed int64 `json:"closed"`
	// Bytes were read.
	Bytes int64 `json:"bytes"`
	// Latency is from the event's time to when the viewer had it.
	Latency latency.Summary `json:"latency"`
}

// Viewers is the thread and its connections.
type Viewers struct {
	c      Config
	target unix.SockaddrInet4
	ep     int
	wakeFD int
	done   chan struct{}

	mu    sync.Mutex
	tasks []func()

	// settled is how many deliveries and losses there were; for waiting
	// without disturbing the thread.
	settled atomic.Int64
	nready  atomic.Int64
	failed  atomic.Pointer[error]

	// What follows belongs to the thread.
	all      []viewer
	stamps   [][]stamp // by workflow, a power of two each
	openFrom time.Time // when Open was called
	opening  int       // connections that are not ready
	want     int       // how many connections there are to be
	source   byte      // last byte of the source address
	buf      []byte
	counts   Counts
	hist     latency.Histogram
	ready    latency.Histogram // from connect to ready
	first    latency.Histogram // from connect to the first frame
	stopping bool
	from     []Place // where viewers resume from, viewer i from from[i % len(from)]
	goal     int64   // the seq that a resuming viewer must reach to be ready
	stuck    []int   // sockets that nobody reads

	// secure is what there is in place of the thread over TLS.
	secure secure
}

// stamp is when the event with this seq was due; zero: it does not count.
type stamp struct {
	seq  int64
	nano int64
}

// stampSlots returns how many events' times are remembered for each of n
// workflows: as many as a viewer may be behind another, within reason.
func stampSlots(n int) int {
	slots := 8
	for slots < 4096 && slots*2*n <= 1<<17 {
		slots *= 2
	}
	return slots
}

// New checks the settings and starts the thread. No connection is opened yet.
func New(c Config) (*Viewers, error) {
	target, err := Loopback(c.Server)
	if err != nil {
		return nil, err
	}
	if c.Viewers < 1 || c.Viewers > MaxViewers {
		return nil, fmt.Errorf("%d viewers; between 1 and %d are possible", c.Viewers, MaxViewers)
	}
	if len(c.Workflows) == 0 {
		return nil, errors.New("no workflow to follow")
	}
	v := &Viewers{
		c: c, target: unix.SockaddrInet4{Port: int(target.Port), Addr: [4]byte(target.IP.To4())},
		all: make([]viewer, c.Viewers), stamps: make([][]stamp, len(c.Workflows)),
		buf: make([]byte, maxFrame), done: make(chan struct{}), source: 1,
	}
	for i := range v.stamps {
		v.stamps[i] = make([]stamp, stampSlots(len(v.stamps)))
	}
	if c.Secure != Clear {
		return v, v.checkSecure()
	}
	if v.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	if v.wakeFD, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, errors.Join(fmt.Errorf("make an eventfd: %w", err), unix.Close(v.ep))
	}
	if err := unix.EpollCtl(v.ep, unix.EPOLL_CTL_ADD, v.wakeFD, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1}); err != nil {
		return nil, errors.Join(fmt.Errorf("watch the eventfd: %w", err), unix.Close(v.ep), unix.Close(v.wakeFD))
	}
	go v.run()
	return v, nil
}

// Loopback returns the address, or refuses it unless it is of this machine's
// loopback.
func Loopback(addr string) (*net.TCPAddr, error) {
	a, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return nil, fmt.Errorf("the address %s: %w", addr, err)
	}
	if a.IP == nil || !a.IP.IsLoopback() || a.Port == 0 {
		return nil, fmt.Errorf("the address %s is not of this machine's loopback; nothing else is put under load", addr)
	}
	return a, nil
}

// do has the thread run f, and waits for it.
func (v *Viewers) do(f func()) {
	if v.c.Secure != Clear {
		v.secure.mu.Lock()
		defer v.secure.mu.Unlock()
		f()
		return
	}
	ran := make(chan struct{})
	v.mu.Lock()
	v.tasks = append(v.tasks, func() { f(); close(ran) })
	v.mu.Unlock()
	_, _ = unix.Write(v.wakeFD, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // full is awake, too
	select {
	case <-ran:
	case <-v.done:
	}
}

// Open opens connections until there are n in all, and waits until they are
// ready, or for that long.
func (v *Viewers) Open(n int, within time.Duration) error {
	if n > len(v.all) {
		return fmt.Errorf("%d viewers are more than the %d that were announced", n, len(v.all))
	}
	v.do(func() {
		v.want, v.openFrom = n, time.Now()
		if v.c.Secure != Clear {
			v.openSecure()
		} else {
			v.open()
		}
	})
	return v.await(within, func() bool { return v.nready.Load() >= int64(n) },
		func() string { return fmt.Sprintf("%d of %d viewers are ready", v.nready.Load(), n) })
}

// Resume opens n connections that go on from these positions. A viewer is
// ready once it has the event with seq goal.
func (v *Viewers) Resume(n int, from []Place, goal int64, within time.Duration) error {
	v.do(func() {
		v.from, v.goal = from, goal
		v.counts, v.hist, v.ready, v.first = Counts{}, latency.Histogram{}, latency.Histogram{}, latency.Histogram{}
		v.settled.Store(0)
	})
	return v.Open(n, within)
}

// Cut cuts all connections off. They may be opened again.
func (v *Viewers) Cut() {
	v.do(func() {
		for i := range v.all {
			if w := &v.all[i]; w.state != unopened && w.state != gone {
				v.drop(w)
			}
			v.all[i] = viewer{}
		}
		v.want, v.opening = 0, 0
		v.nready.Store(0)
	})
}

// WaitSettled waits until that many events were delivered or lost since
// Begin, or for that long.
func (v *Viewers) WaitSettled(n int64, within time.Duration) error {
	return v.await(within, func() bool { return v.settled.Load() >= n },
		func() string { return fmt.Sprintf("%d of %d deliveries were made", v.settled.Load(), n) })
}

func (v *Viewers) await(within time.Duration, ok func() bool, state func() string) error {
	begin := time.Now()
	for !ok() {
		if err := v.failed.Load(); err != nil {
			return *err
		}
		if time.Since(begin) > within {
			return fmt.Errorf("after %s %s", within, state())
		}
		time.Sleep(2 * time.Millisecond)
	}
	return nil
}

// Begin counts from zero. Viewers that do not know where they are take heads,
// by workflow, for it.
func (v *Viewers) Begin(heads []int64) {
	v.do(func() {
		v.counts, v.hist = Counts{}, latency.Histogram{}
		v.settled.Store(0)
		for i := range v.all {
			if w := &v.all[i]; w.seq < 0 {
				w.seq = heads[i%len(heads)]
			}
		}
	})
}

// Counts returns what was seen since Begin.
func (v *Viewers) Counts() Counts {
	var c Counts
	v.do(func() {
		c = v.counts
		c.Latency = v.hist.Summary()
	})
	return c
}

// Ready returns how long viewers took from connect to ready, over all.
func (v *Viewers) Ready() latency.Summary {
	var s latency.Summary
	v.do(func() { s = v.ready.Summary() })
	return s
}

// First returns how long viewers took from connect to their first frame.
func (v *Viewers) First() latency.Summary {
	var s latency.Summary
	v.do(func() { s = v.first.Summary() })
	return s
}

// Close cuts all connections off and ends the thread.
func (v *Viewers) Close() {
	for _, fd := range v.stuck {
		_ = unix.Close(fd)
	}
	v.stuck = nil
	if v.c.Secure != Clear {
		v.closeSecure()
		return
	}
	v.do(func() { v.stopping = true })
	<-v.done
}

// run is the thread.
func (v *Viewers) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(v.done)
	events := make([]unix.EpollEvent, 1024)
	for !v.stopping {
		wait := -1
		if v.opened() < v.want {
			wait = 1 // ms, until the next connection may be due
		}
		n, err := unix.EpollWait(v.ep, events, wait)
		if err != nil && err != unix.EINTR {
			v.fail(fmt.Errorf("epoll: %w", err))
			break
		}
		for _, e := range events[:max(n, 0)] {
			if e.Fd < 0 {
				v.runTasks()
				continue
			}
			v.event(&v.all[e.Fd])
		}
		v.settle()
		v.open()
	}
	for i := range v.all {
		if w := &v.all[i]; w.state != unopened && w.state != gone {
			v.drop(w)
		}
	}
	_, _ = unix.Close(v.ep), unix.Close(v.wakeFD)
}

func (v *Viewers) settle() { v.settled.Store(v.counts.Delivered + v.counts.Lost + v.counts.Skipped) }

func (v *Viewers) runTasks() {
	var count [8]byte
	_, _ = unix.Read(v.wakeFD, count[:])
	v.mu.Lock()
	tasks := v.tasks
	v.tasks = nil
	v.mu.Unlock()
	for _, f := range tasks {
		f()
	}
}

func (v *Viewers) fail(err error) { v.failed.CompareAndSwap(nil, &err) }
