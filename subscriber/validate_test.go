package subscriber_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/subscriber"
)

// observed is one connection of one client, from what it asked for to what
// it saw.
type observed struct {
	after  string // the position it asked to go on from; empty: none
	ws     bool
	status int // of the answer, where it was no stream
	frames []frame
	err    error // with which it ended
}

// truth is what the writer wrote, by position.
type truth struct {
	mu     sync.Mutex
	events map[string]progress.Event
	last   progress.Position
	done   bool
}

func (w *truth) add(pos progress.Position, e progress.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.Epoch, e.Seq, e.Check = pos.Epoch, pos.Seq, pos.Check
	w.events[pos.String()] = e
	w.last = pos
}

func (w *truth) final() (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last.String(), w.done
}

// Many viewers under faults: what each of them saw is checked against what
// was written, and against the promises.
func TestPromisesUnderFaults(t *testing.T) {
	for _, tt := range []struct {
		name string
		// lossy faults lose what Redis held: gaps are right then, and only then.
		lossy bool
	}{
		{"connections and nodes fail", false},
		{"and Redis loses and trims", true},
	} {
		t.Run(tt.name, func(t *testing.T) { underFaults(t, tt.lossy) })
	}
}

func underFaults(t *testing.T, lossy bool) {
	const viewers, chains, perChain = 24, 6, 120
	redis := testenv.NewRedis(t, testenv.RedisOptions{})
	store, err := redisstore.Open(t.Context(), redis.URL(), redisstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	nodes := &cluster{t: t, redis: redis, store: store, ring: 2048}
	if lossy {
		nodes.ring = 64 // so that viewers fall off
	}
	nodes.start(2)
	t.Cleanup(nodes.stop)

	w := &truth{events: make(map[string]progress.Event)}
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	var writer, faults, clients sync.WaitGroup
	stopFaults := make(chan struct{})
	faults.Go(func() { nodes.faults(stopFaults, lossy) })
	writer.Go(func() {
		w.write(ctx, t, store, chains, perChain, func() {
			close(stopFaults)
			faults.Wait()
		})
	})

	seen := make([][]observed, viewers)
	for i := range viewers {
		clients.Go(func() {
			v := &viewer{id: "w", pick: nodes.pick, truth: w, ws: i%2 == 1, slow: i%6 == 5, rand: rand.New(rand.NewPCG(1, uint64(i)))}
			v.run(ctx)
			seen[i] = v.conns
		})
	}
	writer.Wait()
	clients.Wait()
	if ctx.Err() != nil {
		t.Errorf("it took too long")
	}
	gaps, ends, conns := 0, 0, 0
	for i, list := range seen {
		g, e := validate(t, fmt.Sprintf("viewer %d", i), list, w, lossy)
		gaps, ends, conns = gaps+g, ends+e, conns+len(list)
		if last := lastPosition(list); last != w.last.String() {
			t.Errorf("viewer %d: stands at %s, the stream at %s", i, last, w.last)
		}
	}
	t.Logf("%d events, %d connections, %d gaps, %d ends", len(w.events), conns, gaps, ends)
	if ends < viewers {
		t.Errorf("%d ends for %d viewers", ends, viewers)
	}
}

// write writes chains of events until all are written; each is tried until
// Redis has taken it. Before the last one it calls quiet: what is lost behind
// that, no viewer can see.
func (w *truth) write(ctx context.Context, t *testing.T, store *redisstore.Store, chains, perChain int, quiet func()) {
	number := int64(0)
	for chain := range chains {
		r := newRun(t, store, "w", fmt.Sprint("run-", chain))
		for i := range perChain {
			typ := progress.TypeLog
			switch i {
			case 0:
				typ = progress.TypeStarted
			case perChain - 1:
				typ = progress.TypeClosed
			}
			if chain == chains-1 && i == perChain-1 {
				quiet()
			}
			number++
			e := r.event(typ, func(e *progress.Event) { e.Message = strconv.FormatInt(number, 10) })
			for ctx.Err() == nil {
				res, err := store.Append(ctx, redisstore.Append{
					WorkflowID: "w", Fence: r.fence, Producer: redisstore.Producer{Name: "writer"}, Number: number,
					Events: []progress.Event{e},
				})
				if err == nil {
					w.add(res.Position, e)
					break
				}
				if !errors.Is(err, progress.ErrUnavailable) {
					t.Errorf("append %d: %v", number, err)
					return
				}
			}
			if rand.N(3) == 0 {
				time.Sleep(rand.N(8 * time.Millisecond))
			}
		}
		time.Sleep(200 * time.Millisecond) // so that some are told 204
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = true
}

// cluster is the nodes that viewers connect to.
type cluster struct {
	t     *testing.T
	redis *testenv.RedisServer
	store *redisstore.Store
	ring  int

	mu    sync.Mutex
	nodes []*subscriber.Server
	addrs []string
}

func (c *cluster) start(n int) {
	for range n {
		s := c.node("127.0.0.1:0")
		c.nodes = append(c.nodes, s)
		c.addrs = append(c.addrs, s.Addr())
	}
}

func (c *cluster) node(addr string) *subscriber.Server {
	o := subscriber.Options{Store: c.store}
	o.Config.Addr, o.Config.Drain, o.Config.RingLen = addr, time.Millisecond, c.ring
	o.Config.CompareEvery, o.Config.Linger = 200*time.Millisecond, 50*time.Millisecond
	s, err := subscriber.New(o)
	if err == nil {
		err = s.Start(c.t.Context())
	}
	if err != nil {
		c.t.Errorf("start a node: %v", err)
	}
	return s
}

func (c *cluster) pick(n int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return "http://" + c.addrs[n%len(c.addrs)]
}

func (c *cluster) stop() {
	for _, s := range c.nodes {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		if err := s.Stop(ctx); err != nil {
			c.t.Logf("stop: %v", err)
		}
		cancel()
	}
}

// faults does one fault after the other.
func (c *cluster) faults(stop <-chan struct{}, lossy bool) {
	admin := adminClient(c.t, c.redis)
	ctx := context.Background()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(100 * time.Millisecond):
		}
		switch n % 5 {
		case 0:
			admin.Do(ctx, "CLIENT", "KILL", "TYPE", "pubsub")
		case 1:
			admin.Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		case 2:
			i := n % len(c.nodes)
			old := c.nodes[i]
			short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			_ = old.Stop(short) // it cuts off who does not go
			cancel()
			c.nodes[i] = c.node(c.addrs[i])
		case 3:
			if lossy {
				admin.XTrimMaxLen(ctx, "workflow:{w}:events", 5)
			}
		case 4:
			if lossy && n%15 == 14 {
				admin.FlushAll(ctx)
			}
		}
	}
}

// viewer follows the workflow as a careful client does: it reconnects, on
// any node, from the last position it saw.
type viewer struct {
	id string // of the workflow
	// pick returns where to connect to.
	pick func(n int) string
	// via is how; nil: as everybody does.
	via   *http.Client
	truth *truth
	ws    bool
	slow  bool
	// rand is what it goes away by; nil: it stays, and n is 0.
	rand *rand.Rand
	// onFrame gets each frame; it may be nil.
	onFrame func(frame)
	conns   []observed
}

func (v *viewer) run(ctx context.Context) {
	for ctx.Err() == nil {
		after := lastPosition(v.conns)
		if last, done := v.truth.final(); done && after == last {
			return
		}
		o := observed{after: after, ws: v.ws}
		v.follow(ctx, &o)
		if o.status == -1 {
			continue // no answer at all
		}
		v.conns = append(v.conns, o)
	}
}

// follow is one connection. Now and then the viewer itself goes away.
func (v *viewer) follow(ctx context.Context, o *observed) {
	n, frames, within := 0, math.MaxInt, 2*time.Minute
	if v.rand != nil {
		n, frames, within = v.rand.IntN(2), 20+v.rand.IntN(400), 30*time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	base, via := v.pick(n), http.DefaultClient
	if v.via != nil {
		via = v.via
	}
	query := ""
	if o.after != "" {
		query = "?after=" + o.after
	}
	var c client
	if v.ws {
		conn, res, err := websocket.Dial(ctx, base+"/v1/workflows/"+v.id+"/ws"+query, &websocket.DialOptions{HTTPClient: via})
		if err != nil {
			o.status = -1
			if res != nil {
				o.status = res.StatusCode
			}
			time.Sleep(5 * time.Millisecond)
			return
		}
		c = &wsClient{conn: conn, ctx: ctx, cancel: cancel}
	} else {
		res, err := request(ctx, via, base+"/v1/workflows/"+v.id+"/stream"+query)
		if err != nil {
			o.status = -1
			time.Sleep(5 * time.Millisecond)
			return
		}
		if res.StatusCode != http.StatusOK {
			_ = res.Body.Close()
			o.status = res.StatusCode
			time.Sleep(20 * time.Millisecond)
			return
		}
		c = &sseClient{res: res, lines: bufio.NewReader(res.Body), cancel: cancel}
	}
	defer c.close()
	for range frames {
		f, err := c.next()
		if err != nil {
			o.err = err
			return
		}
		o.frames = append(o.frames, f)
		if v.onFrame != nil {
			v.onFrame(f)
		}
		if v.slow {
			time.Sleep(time.Duration(v.rand.IntN(int(20 * time.Millisecond))))
		}
	}
}

// lastPosition is where a client stands after its connections.
func lastPosition(conns []observed) string {
	for i := len(conns) - 1; i >= 0; i-- {
		for j := len(conns[i].frames) - 1; j >= 0; j-- {
			if f := conns[i].frames[j]; f.Kind != "gap" {
				return f.ID
			}
		}
		if conns[i].after != "" {
			return conns[i].after
		}
	}
	return ""
}

// validate checks the promises on all that one client saw.
func validate(t *testing.T, who string, conns []observed, w *truth, lossy bool) (gaps, ends int) {
	t.Helper()
	for n, o := range conns {
		where := fmt.Sprintf("%s, connection %d (ws %v, after %q)", who, n, o.ws, o.after)
		if o.status != 0 {
			// 204 only for the end of a chain.
			if o.status == http.StatusNoContent {
				if e, ok := w.events[o.after]; !ok || e.Type != progress.TypeClosed {
					t.Errorf("%s: 204 at %+v", where, e)
				}
			} else if o.status != http.StatusServiceUnavailable {
				t.Errorf("%s: status %d", where, o.status)
			}
			continue
		}
		at, ended := o.after, false
		for i, f := range o.frames {
			if ended {
				t.Errorf("%s: %s %s after the end", where, f.Kind, f.ID)
			}
			previous := ""
			if i > 0 {
				previous = o.frames[i-1].Kind
			}
			if previous == "gap" && f.Kind != "snapshot" {
				t.Errorf("%s: %s follows a gap", where, f.Kind)
			}
			switch f.Kind {
			case "gap":
				gaps++
				from, to, reason := gapOf(t, f)
				if !lossy {
					t.Errorf("%s: gap (%s) from %s to %s, though Redis lost nothing", where, reason, from, to)
				}
				if from != at {
					t.Errorf("%s: gap (%s) from %s, but the client stands at %s", where, reason, from, at)
				}
				continue
			case "snapshot":
				if previous != "gap" && (i > 0 || o.after != "") {
					t.Errorf("%s: a snapshot at %s without a gap, after %s", where, f.ID, at)
				}
				s := f.snapshot(t)
				if pos := s.Position(); pos.String() != f.ID {
					t.Errorf("%s: snapshot of %s has id %s", where, pos.String(), f.ID)
				}
				if e, ok := w.events[f.ID]; s.Seq > 0 && (!ok || e.RunID != s.RunID) {
					t.Errorf("%s: snapshot at %s of run %s; the writer knows %+v", where, f.ID, s.RunID, e)
				}
			case "update", "end":
				e, ok := w.events[f.ID]
				got := f.event(t)
				if !ok || got.Message != e.Message || got.Type != e.Type || got.RunID != e.RunID {
					t.Errorf("%s: %s %s is %+v; the writer wrote %+v", where, f.Kind, f.ID, got, e)
				}
				checkNext(t, where, at, got)
				if (f.Kind == "end") != (got.Type == progress.TypeClosed) && f.Kind == "update" {
					t.Errorf("%s: %s of type %s", where, f.Kind, got.Type)
				}
				if f.Kind == "end" {
					ended = true
					ends++
					if got.Type != progress.TypeClosed {
						t.Errorf("%s: end with %s", where, f.Data)
					}
				}
			default:
				t.Errorf("%s: frame %s", where, f.Kind)
			}
			at = f.ID
		}
		if ended && o.err != nil {
			if o.ws && websocket.CloseStatus(o.err) != websocket.StatusNormalClosure || !o.ws && !errors.Is(o.err, io.EOF) {
				// A node that is cut off may take the close frame with it.
				t.Logf("%s: after its end the connection failed with %v", where, o.err)
			}
		}
	}
	return gaps, ends
}

// checkNext reports an event that does not follow the position: the next seq
// of the same epoch. After a snapshot that is closed, its own end follows.
func checkNext(t *testing.T, where, at string, e progress.Event) {
	t.Helper()
	if at == "" {
		t.Errorf("%s: %s before any snapshot", where, e.Type)
		return
	}
	pos, err := progress.ParsePosition(at)
	if err != nil {
		t.Errorf("%s: id %q: %v", where, at, err)
		return
	}
	own := e.Type == progress.TypeClosed && e.Position() == pos
	if !own && (e.Seq != pos.Seq+1 || (!pos.IsZero() && e.Epoch != pos.Epoch)) {
		t.Errorf("%s: seq %d of epoch %d follows %s", where, e.Seq, e.Epoch, at)
	}
	if strings.Count(at, "-") == 0 {
		t.Errorf("%s: id %q", where, at)
	}
}
