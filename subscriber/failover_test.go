package subscriber_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// What is promised is five seconds; a machine that does much else gets more.
const patience = 15 * time.Second

// followed is one workflow that is written all the time, and its viewer.
type followed struct {
	id    string
	truth *truth
	conns []observed

	mu    sync.Mutex
	acked int64     // the newest number that Redis has acknowledged
	seen  int64     // the newest number that the viewer got
	since time.Time // when the oldest was acknowledged that it did not; zero: none
	worst time.Duration
	// retried are the positions of events that took more than one attempt: an
	// earlier one may have been seen, and then lost.
	retried map[string]bool
}

func (f *followed) ack(pos progress.Position, number int64, retried bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acked = number
	if f.since.IsZero() && f.seen < number {
		f.since = time.Now()
	}
	if retried {
		f.retried[pos.String()] = true
	}
}

func (f *followed) see(number int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = max(f.seen, number)
	if f.since.IsZero() {
		return
	}
	f.worst = max(f.worst, time.Since(f.since))
	f.since = time.Time{}
	if f.acked > f.seen {
		f.since = time.Now()
	}
}

// failover runs workflows under load, with a viewer each, on a Redis that
// fails.
type failover struct {
	t         *testing.T
	node      *node
	workflows []*followed
	stop      chan struct{} // closed to have the runs end
	running   sync.WaitGroup
}

func startFailover(t *testing.T, url string, workflows int) *failover {
	t.Helper()
	open := func() *redisstore.Store {
		s, err := redisstore.Open(t.Context(), url, redisstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	f := &failover{t: t, node: startWith(t, nil, open()), stop: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); f.running.Wait() })
	for i := range workflows {
		w := &followed{
			id: fmt.Sprint("w-", i), retried: map[string]bool{},
			truth: &truth{events: map[string]progress.Event{}},
		}
		f.workflows = append(f.workflows, w)
		f.running.Go(func() { f.view(ctx, w, i%2 == 1) })
	}
	writer := open()
	const writers = 6
	for n := range writers {
		f.running.Go(func() { f.write(ctx, writer, n, writers) })
	}
	f.settle("at the start", f.workflows)
	return f
}

// write appends to every n-th workflow in turn, and closes each in the end.
func (f *failover) write(ctx context.Context, store *redisstore.Store, first, n int) {
	type state struct {
		w       *followed
		run     *run
		number  int64
		retried bool
		next    *progress.Event // under way
		closed  bool
	}
	var open []*state
	for i := first; i < len(f.workflows); i += n {
		w := f.workflows[i]
		open = append(open, &state{w: w, run: newRun(f.t, store, w.id, "run")})
	}
	for ctx.Err() == nil && len(open) > 0 {
		for _, s := range open {
			if s.next == nil {
				typ := progress.TypeLog
				select {
				case <-f.stop:
					typ = progress.TypeClosed
				default:
				}
				if s.number == 0 {
					typ = progress.TypeStarted
				}
				e := s.run.event(typ, func(e *progress.Event) { e.Message = strconv.FormatInt(s.number+1, 10) })
				s.next, s.retried = &e, false
			}
			call, cancel := context.WithTimeout(ctx, time.Second)
			res, err := store.Append(call, redisstore.Append{
				WorkflowID: s.w.id, Fence: s.run.fence, Producer: redisstore.Producer{Name: "writer"}, Number: s.number + 1,
				Events: []progress.Event{*s.next},
			})
			cancel()
			switch {
			case err == nil:
				s.number++
				s.closed = s.next.Type == progress.TypeClosed
				s.w.truth.add(res.Position, *s.next)
				s.w.ack(res.Position, s.number, s.retried)
				s.next = nil
			case errors.Is(err, progress.ErrUnavailable):
				s.retried = true
			case ctx.Err() == nil:
				f.t.Errorf("append to %s: %v", s.w.id, err)
				return
			}
		}
		open = slices.DeleteFunc(open, func(s *state) bool { return s.closed })
		select {
		case <-time.After(30 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// view follows one workflow to its end.
func (f *failover) view(ctx context.Context, w *followed, ws bool) {
	v := &viewer{id: w.id, ws: ws, pick: func(int) string { return f.node.url }, onFrame: func(fr frame) {
		if fr.Kind != "update" {
			return
		}
		if number, err := strconv.ParseInt(fr.event(f.t).Message, 10, 64); err == nil {
			w.see(number)
		}
	}}
	for ctx.Err() == nil {
		o := observed{after: lastPosition(w.conns), ws: ws}
		v.follow(ctx, &o)
		if o.status == -1 {
			continue
		}
		w.conns = append(w.conns, o)
		if n := len(o.frames); n > 0 && o.frames[n-1].Kind == "end" {
			return
		}
	}
}

// settle waits until each viewer has got an event that was acknowledged after
// the call, and returns how long that took.
func (f *failover) settle(what string, workflows []*followed) time.Duration {
	f.t.Helper()
	begin := time.Now()
	acked := make([]int64, len(workflows))
	for i, w := range workflows {
		w.mu.Lock()
		acked[i] = w.acked
		w.mu.Unlock()
	}
	for {
		missing := 0
		for i, w := range workflows {
			w.mu.Lock()
			if w.seen <= acked[i] {
				missing++
			}
			w.mu.Unlock()
		}
		if missing == 0 {
			return time.Since(begin)
		}
		if time.Since(begin) > patience {
			f.t.Fatalf("%s: %d of %d viewers get nothing; %+v", what, missing, len(workflows), f.node.store.Stats())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// worst returns the longest time from an acknowledgement to the viewer since
// it was last called.
func (f *failover) worst() time.Duration {
	var worst time.Duration
	for _, w := range f.workflows {
		w.mu.Lock()
		worst = max(worst, w.worst)
		w.worst = 0
		w.mu.Unlock()
	}
	return worst
}

// finish ends the runs and holds what each viewer saw against the promises.
func (f *failover) finish() {
	f.t.Helper()
	lossy, gaps := 0, 0
	close(f.stop)
	done := make(chan struct{})
	go func() { f.running.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(2 * patience):
		f.t.Fatal("viewers wait for the end")
	}
	for _, w := range f.workflows {
		lost := f.lost(w)
		if len(lost) > 0 {
			lossy++
		}
		g, ends := validate(f.t, w.id, w.conns, w.truth, true)
		gaps += g
		if ends != 1 || lastPosition(w.conns) != w.truth.last.String() {
			f.t.Errorf("%s: %d ends; the viewer stands at %s, the stream at %s", w.id, ends, lastPosition(w.conns), w.truth.last)
		}
		if len(w.conns) != 1 {
			f.t.Errorf("%s: %d connections", w.id, len(w.conns))
		}
		for _, o := range w.conns {
			for _, fr := range o.frames {
				if fr.Kind != "gap" {
					continue
				}
				from, to, reason := gapOf(f.t, fr)
				if len(lost) == 0 && !w.retried[from] {
					f.t.Errorf("%s: gap (%s) from %s to %s, though Redis lost nothing", w.id, reason, from, to)
				}
			}
		}
	}
	f.t.Logf("%d of %d workflows lost acknowledged events; %d gaps", lossy, len(f.workflows), gaps)
	if lossy == 0 || gaps == 0 {
		f.t.Error("the test lost nothing, and so does not show that losses are told")
	}
}

// lost returns the positions that were acknowledged and that the stream does
// not hold in the end.
func (f *failover) lost(w *followed) []string {
	f.t.Helper()
	view, err := f.node.store.Read(f.t.Context(), w.id, 1, 0)
	if err != nil {
		f.t.Fatal(err)
	}
	held := map[string]bool{}
	for _, raw := range view.Events {
		e, err := progress.DecodeEvent(raw.Data)
		if err != nil {
			f.t.Fatal(err)
		}
		pos := e.Position()
		held[pos.String()] = true
	}
	var lost []string
	for pos := range w.truth.events {
		if !held[pos] {
			lost = append(lost, pos)
		}
	}
	return lost
}

// Viewers on a cluster whose slots move, whose masters change places, hang
// and are killed, under load: nothing is skipped without a gap, there is a gap
// only where Redis lost something, and nobody's connection ends.
func TestViewersOnAFailingCluster(t *testing.T) {
	c := testenv.NewReplicatedCluster(t)
	f := startFailover(t, c.URL(), 300)
	keys := make([]string, len(f.workflows))
	for i, w := range f.workflows {
		keys[i] = "workflow:{" + w.id + "}"
	}
	// masterOf returns the master of a workflow, and all workflows on it.
	masterOf := func(i int) (*testenv.RedisServer, []*followed) {
		owners := c.Owners(keys...)
		var on []*followed
		for j, w := range f.workflows {
			if owners[j] == owners[i] {
				on = append(on, w)
			}
		}
		return owners[i], on
	}
	f.worst()

	from, _ := masterOf(0)
	to := from
	for i := 1; to == from; i++ {
		to, _ = masterOf(i)
	}
	c.Reshard(300, from, to)
	f.settle("slots were moved", f.workflows)
	t.Logf("reshard: from acknowledgement to viewer at most %v", f.worst())

	old, on := masterOf(0)
	c.Failover(old)
	c.Promoted("workflow:{"+on[0].id+"}", old)
	took := f.settle("a replica took over", on)
	t.Logf("manual failover: %d viewers get events %v after the promotion; from acknowledgement to viewer at most %v", len(on), took, f.worst())
	c.AwaitReplicas(3)

	old, on = masterOf(0)
	resume := old.Pause(t)
	c.Promoted("workflow:{"+on[0].id+"}", old)
	took = f.settle("a master hangs", on)
	t.Logf("hanging master: %d viewers get events %v after the promotion; from acknowledgement to viewer at most %v", len(on), took, f.worst())
	resume()
	c.AwaitReplicas(3)

	old, on = masterOf(0)
	resume = testenv.CutOff(t, old, c.ReplicaOf(old))
	f.settle("a replica was cut off", on) // of which nothing is replicated
	f.worst()
	old.Stop()
	resume()
	c.Promoted("workflow:{"+on[0].id+"}", old)
	took = f.settle("a master was killed", on)
	f.settle("a master was killed", f.workflows)
	t.Logf("killed master: %d viewers get events %v after the promotion; from acknowledgement to viewer at most %v", len(on), took, f.worst())

	f.finish()
}

// The same where Sentinel replaces a primary that was killed.
func TestViewersOnAFailingPrimary(t *testing.T) {
	g := testenv.NewSentinels(t)
	f := startFailover(t, g.URL(), 300)
	resume := testenv.CutOff(t, g.Primary, g.Replica)
	f.settle("the replica was cut off", f.workflows) // of which nothing is replicated
	f.worst()
	g.Primary.Stop()
	resume()
	g.Promoted()
	took := f.settle("the primary was killed", f.workflows)
	t.Logf("%d viewers get events %v after the promotion; from acknowledgement to viewer at most %v", len(f.workflows), took, f.worst())
	f.finish()
}
