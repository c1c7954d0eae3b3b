package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// server is one kind of Redis that the contract holds on.
type server struct {
	name string
	// dial returns a client whose connections lose answers as faults says.
	dial    func(t testing.TB, f *faults) redis.UniversalClient
	sharded bool // messages are published with SPUBLISH
	exact   bool // MAXLEN ~ trims to the very number
	clients bool // has CLIENT KILL, and users
}

var servers = []server{
	{name: "redis", clients: true, dial: func(t testing.TB, f *faults) redis.UniversalClient {
		return redis.NewClient(&redis.Options{Addr: testenv.Redis(t).Addr, Dialer: f.dial, ContextTimeoutEnabled: true})
	}},
	{name: "cluster", sharded: true, clients: true, dial: func(t testing.TB, f *faults) redis.UniversalClient {
		return redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: testenv.Cluster(t).Addrs(), Dialer: f.dial, ContextTimeoutEnabled: true,
		})
	}},
	{name: "miniredis", exact: true, dial: func(t testing.TB, f *faults) redis.UniversalClient {
		return redis.NewClient(&redis.Options{Addr: testenv.Mini(t).Addr(), Dialer: f.dial, ContextTimeoutEnabled: true})
	}},
}

// contract runs a test of the contract on every kind of server.
func contract(t *testing.T, o redisstore.Options, test func(t *testing.T, h *harness)) {
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) { test(t, newHarness(t, s, o)) })
	}
}

// withUsers is like contract, on the servers that know users: the embedded one
// does not.
func withUsers(t *testing.T, o redisstore.Options, test func(t *testing.T, h *harness)) {
	for _, s := range servers {
		if s.clients {
			t.Run(s.name, func(t *testing.T) { test(t, newHarness(t, s, o)) })
		}
	}
}

type harness struct {
	server
	client redis.UniversalClient
	store  *redisstore.Store
	prefix string
	faults *faults
	opts   redisstore.Options
}

func newHarness(t testing.TB, s server, o redisstore.Options) *harness {
	h := &harness{server: s, faults: &faults{}, prefix: testenv.Prefix(t)}
	o.Prefix = h.prefix
	if o.PingEvery == 0 {
		o.PingEvery = time.Second // a busy machine is no dead connection
	}
	h.opts = o
	h.client = s.dial(t, h.faults)
	t.Cleanup(func() { h.client.Close() })
	h.store = redisstore.New(h.client, o)
	t.Cleanup(func() { h.store.Close() })
	return h
}

func (h *harness) key(id, suffix string) string {
	return h.prefix + ":workflow:{" + redisstore.EncodeID(id) + "}" + suffix
}

// faults loses answers: the command arrives and runs, its answer does not.
type faults struct {
	lose  atomic.Int64
	whole atomic.Bool // only those of scripts sent whole
}

func (f *faults) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &faultyConn{Conn: c, f: f}, nil
}

type faultyConn struct {
	net.Conn
	f      *faults
	script atomic.Bool // whether the last write was a script's
}

func (c *faultyConn) Write(p []byte) (int, error) {
	command := "evalsha\r\n"
	if c.f.whole.Load() {
		command = "\neval\r\n"
	}
	c.script.Store(strings.Contains(strings.ToLower(string(p)), command))
	return c.Conn.Write(p)
}

func (c *faultyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == nil && c.script.Load() && c.f.lose.Load() > 0 && c.f.lose.Add(-1) >= 0 {
		c.Conn.Close()
		return 0, io.EOF
	}
	return n, err
}

var t0 = time.Date(2026, 11, 23, 1, 2, 3, 456789000, time.UTC)

// event returns a valid event of a run, with the fields that fill sets.
func event(id, run string, typ progress.EventType, fill func(e *progress.Event)) progress.Event {
	e := progress.Event{WorkflowID: id, RunID: run, Chain: run, Type: typ, Time: t0}
	switch typ {
	case progress.TypeStarted:
		e.Status = progress.StatusRunning
	case progress.TypeClosed:
		e.Status = progress.StatusCompleted
	case progress.TypeStep:
		e.Status, e.Step = progress.StatusRunning, "step"
	case progress.TypeOutput:
		e.Data = []byte(`"text"`)
	}
	if fill != nil {
		fill(&e)
	}
	return e
}

func logs(id, run string, n int) []progress.Event {
	events := make([]progress.Event, n)
	for i := range events {
		events[i] = event(id, run, progress.TypeLog, func(e *progress.Event) { e.Message = fmt.Sprint("line ", i) })
	}
	return events
}

// fence is that of a run whose time is the given number of seconds.
func fence(run string, seconds int) redisstore.Fence {
	f := redisstore.Fence{RunID: run, Chain: run}
	if seconds > 0 {
		f.RunTime = t0.Add(time.Duration(seconds) * time.Second)
	}
	return f
}

func (h *harness) append(t testing.TB, a redisstore.Append) redisstore.Result {
	t.Helper()
	res, err := h.store.Append(t.Context(), a)
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	return res
}

func (h *harness) refused(t testing.TB, a redisstore.Append, want error) {
	t.Helper()
	before, err := h.store.Read(t.Context(), a.WorkflowID, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.store.Append(t.Context(), a); !errors.Is(err, want) {
		t.Fatalf("append: got error %v, want %v", err, want)
	}
	after, err := h.store.Read(t.Context(), a.WorkflowID, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, after); d != "" {
		t.Fatalf("a refused append wrote something:\n%s", d)
	}
}

// events returns the stream's events, after checking that it is whole: seqs
// without holes, checks that chain, a fold equal to the hash.
func (h *harness) events(t testing.TB, id string) []progress.Event {
	t.Helper()
	v, err := h.store.Read(t.Context(), id, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	var events []progress.Event
	prev := progress.FirstCheck
	for i, raw := range v.Events {
		e, err := progress.DecodeEvent(raw.Data)
		if err != nil {
			t.Fatal(err)
		}
		if e.Seq != int64(i+1) || raw.Seq != e.Seq {
			t.Fatalf("event %d has seq %d (entry %d)", i+1, e.Seq, raw.Seq)
		}
		_, tail, _ := strings.Cut(string(raw.Data), `"check":"`+e.Check+`",`)
		if want := progress.NextCheck(prev, []byte(tail)); e.Check != want {
			t.Fatalf("event %d has check %s, want %s", e.Seq, e.Check, want)
		}
		prev = e.Check
		events = append(events, e)
	}
	fold, err := progress.Fold(events)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(fold, v.Snapshot); d != "" {
		t.Fatalf("the fold of the stream (-) is not the hash (+):\n%s", d)
	}
	return events
}

// eventually waits for a condition, without a fixed sleep.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
