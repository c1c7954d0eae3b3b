package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/runcast/runcast/pkg/progress"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is a source whose faults the test decides. It keeps streams as the
// store does, and publishes only what the test wants published.
type script struct {
	mu      sync.Mutex
	hub     *Hub
	streams map[string]*stream
	subs    map[progress.Topic]int
	adds    int // calls of Add
	reads   int
	fail    error // what Add, Read and Heads return
	onRead  func(id string, from int64)
	tags    []progress.Summary
}

type stream struct {
	id      string
	snap    progress.Snapshot
	events  []progress.RawEvent
	trimmed int // how many of events are gone from the front
}

func newScript() *script {
	return &script{streams: make(map[string]*stream), subs: make(map[progress.Topic]int)}
}

func workflow(id string) progress.Topic {
	return progress.Topic{Kind: progress.TopicWorkflow, Name: id}
}

// append adds an event to a stream, begun with the epoch if it is new, and
// returns its wire form. It does not publish.
func (s *script) append(id string, epoch int64, e progress.Event) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[id]
	if st == nil {
		st = &stream{id: id}
		s.streams[id] = st
	}
	e.WorkflowID = id
	if e.RunID == "" {
		e.RunID, e.Chain = "run", "run"
	}
	if e.Time.IsZero() {
		e.Time = time.UnixMicro(1)
	}
	body, err := e.AppendBody(nil)
	if err != nil {
		panic(err)
	}
	prev := progress.FirstCheck
	if st.snap.Seq > 0 {
		prev = st.snap.Check
	}
	e.Epoch, e.Seq, e.Check = epoch, st.snap.Seq+1, progress.NextCheck(prev, body[1:])
	data := fmt.Appendf(nil, `{"epoch":%d,"seq":%d,"check":"%s",%s`, e.Epoch, e.Seq, e.Check, body[1:])
	if err := st.snap.Apply(&e); err != nil {
		panic(err)
	}
	st.events = append(st.events, progress.RawEvent{Seq: e.Seq, Data: data})
	return data
}

// publish appends and delivers the message.
func (s *script) publish(id string, epoch int64, e progress.Event) {
	data := s.append(id, epoch, e)
	s.hub.Message(workflow(id), data)
}

func (s *script) publishLog(id string, n int) {
	for range n {
		s.publish(id, 7, progress.Event{Type: progress.TypeLog, Message: "m"})
	}
}

func (s *script) stream(id string) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[id]
}

func (s *script) drop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, id)
}

func (s *script) position(id string) progress.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[id]
	if st == nil {
		return progress.Position{}
	}
	return st.snap.Position()
}

// at returns the position of one event.
func (s *script) at(id string, seq int64) progress.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	pos, ok := scanPosition(s.streams[id].events[seq-1].Data)
	if !ok {
		panic("no position")
	}
	return pos
}

func (s *script) setFail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func (s *script) Add(_ context.Context, t progress.Topic) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.adds++
	if s.fail != nil {
		return s.fail
	}
	s.subs[t] = 1
	return nil
}

func (s *script) Remove(t progress.Topic) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs[t] = 0
}

func (s *script) Read(_ context.Context, id string, from int64, limit int) (progress.View, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if s.fail != nil {
		return progress.View{}, s.fail
	}
	if s.subs[workflow(id)] == 0 {
		panic("read before the subscription was confirmed")
	}
	var v progress.View
	if st := s.streams[id]; st != nil {
		v.Snapshot = st.snap.Clone()
		held := st.events[st.trimmed:]
		v.Snapshot.FirstSeq = 0
		if len(held) > 0 {
			v.Snapshot.FirstSeq = held[0].Seq
		}
		for _, e := range held {
			if e.Seq >= from && len(v.Events) < limit {
				v.Events = append(v.Events, e)
			}
		}
	}
	if s.onRead != nil {
		f := s.onRead
		s.mu.Unlock()
		f(id, from)
		s.mu.Lock()
	}
	return v, nil
}

func (s *script) Heads(_ context.Context, ids []string) ([]progress.Position, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return nil, s.fail
	}
	heads := make([]progress.Position, len(ids))
	for i, id := range ids {
		if st := s.streams[id]; st != nil {
			heads[i] = st.snap.Position()
		}
	}
	return heads, nil
}

func (s *script) TagSummaries(context.Context, string, int) ([]progress.Summary, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tags, s.fail
}

func (s *script) counts(t progress.Topic) (subs, adds, reads int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.subs[t], s.adds, s.reads
}

// startHub runs a hub on a script until the test ends.
func startHub(t testing.TB, o Options) (*Hub, *script) {
	s := newScript()
	h := New(s, o)
	s.hub = h
	h.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		h.Drain(ctx)
		h.Stop()
	})
	return h, s
}

// pipe is a transport in memory, whose socket takes as much as room says.
type pipe struct {
	enc    Encoding
	direct bool
	c      *Conn

	mu     sync.Mutex
	room   int // bytes; negative: all
	got    bytes.Buffer
	writes int
	ended  CloseReason
	dead   atomic.Bool
}

var errTimeout = timeoutError{}

type timeoutError struct{}

func (timeoutError) Error() string { return "timeout" }
func (timeoutError) Timeout() bool { return true }

func (p *pipe) Name() string              { return "sse" }
func (p *pipe) Encoding() Encoding        { return p.enc }
func (p *pipe) Direct() bool              { return p.direct }
func (p *pipe) Heartbeat() ([]byte, bool) { return []byte(":\n\n"), !p.dead.Load() }
func (p *pipe) Farewell(why CloseReason) []byte {
	return fmt.Appendf(nil, "event: farewell\ndata: \"%s\"\n\n", why)
}

func (p *pipe) TryWrite(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended != "" {
		return 0, errors.New("closed")
	}
	p.writes++
	n := len(b)
	if p.room >= 0 {
		n = min(n, p.room)
		p.room -= n
	}
	p.got.Write(b[:n])
	return n, nil
}

// Write waits up to a second for room.
func (p *pipe) Write(b []byte) (int, error) {
	written := 0
	for range 100 {
		n, err := p.TryWrite(b[written:])
		written += n
		if err != nil || written == len(b) {
			return written, err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return written, errTimeout
}

func (p *pipe) Finish(why CloseReason) { p.end(why) }
func (p *pipe) Abort(why CloseReason)  { p.end(why) }

func (p *pipe) end(why CloseReason) {
	p.mu.Lock()
	first := p.ended == ""
	p.ended = why
	p.mu.Unlock()
	if first {
		go p.c.Closed(why) // as a reader does
	}
}

func (p *pipe) setRoom(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.room = n
}

func (p *pipe) why() CloseReason {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended
}

type seen struct {
	Kind, ID, Data string
}

func (f seen) seq() int64 {
	_, rest, _ := strings.Cut(f.ID, "-")
	text, _, _ := strings.Cut(rest, "-")
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}

func (f seen) gap() Gap {
	var g Gap
	if err := json.Unmarshal([]byte(f.Data), &g); err != nil {
		panic(err)
	}
	return g
}

// frames returns what was written so far. It fails on a broken frame.
func (p *pipe) frames(t testing.TB) []seen {
	t.Helper()
	p.mu.Lock()
	text := p.got.String()
	p.mu.Unlock()
	var all []seen
	for len(text) > 0 {
		one, rest, whole := strings.Cut(text, "\n\n")
		if !whole {
			break
		}
		text = rest
		if one == ":" {
			continue
		}
		var f seen
		for line := range strings.SplitSeq(one, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			switch name {
			case "event":
				f.Kind = value
			case "id":
				f.ID = value
			case "data":
				f.Data = value
			default:
				t.Fatalf("line %q in frame %q", line, one)
			}
		}
		if !json.Valid([]byte(f.Data)) {
			t.Fatalf("data of frame %q", one)
		}
		all = append(all, f)
	}
	return all
}

// kinds returns a short form: kind and seq.
func kinds(frames []seen) string {
	var b strings.Builder
	for i, f := range frames {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(f.Kind)
		switch f.Kind {
		case "gap":
			b.WriteString(":" + string(f.gap().Reason))
		case "snapshot", "update", "end":
			fmt.Fprintf(&b, ":%d", f.seq())
		}
	}
	return b.String()
}

// view opens a connection that follows one workflow.
func view(t testing.TB, h *Hub, id string, w Want) *pipe {
	t.Helper()
	return viewRoom(t, h, id, w, -1)
}

func viewRoom(t testing.TB, h *Hub, id string, w Want, room int) *pipe {
	t.Helper()
	p := &pipe{direct: true, room: room}
	c, err := connect(h, p)
	if err != nil {
		t.Fatal(err)
	}
	p.c = c
	if err := c.Follow(workflow(id), w); err != nil {
		t.Fatal(err)
	}
	return p
}

func after(pos progress.Position) Want { return Want{After: &pos} }
