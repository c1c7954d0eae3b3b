package subscriber_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/subscriber"
	"github.com/runcast/runcast/subscriber/hub"
)

const (
	stormViewers = 2000
	stormHeld    = 1000 // events there before the storm
	stormDuring  = 60   // and while it lasts
)

// storm is a workflow with events, for whose streams many come at once.
type storm struct {
	n   *node
	run *run
	pos []progress.Position // of all events held before the storm
	// known are the frames of all events that are there when it begins, as
	// they are to come over each transport: SSE, WebSocket. So most of what
	// comes is compared as bytes; each frame taken apart would be too slow.
	known [2][][]byte
}

// Thousands who come within a second, wherever they stand, cost Redis a few
// commands, and none of them loses an event.
func TestStorm(t *testing.T) {
	foreign := progress.Position{Epoch: 3, Seq: 1, Check: "00000000"}
	cold, warm, both := []bool{false}, []bool{true}, []bool{false, true}
	for _, tt := range []struct {
		name string
		// after returns where the viewer stands; nil: nowhere.
		after func(s *storm, i int) *progress.Position
		// gap is the reason why it cannot go on from there.
		gap    string
		closed bool
		warm   []bool // whether the node follows the workflow already
	}{
		{name: "descending", warm: cold, after: func(s *storm, i int) *progress.Position { return &s.pos[stormHeld-1-i%stormHeld] }},
		{name: "shuffled", warm: warm, after: func(s *storm, i int) *progress.Position { return &s.pos[i*7919%stormHeld] }},
		{name: "foreign", warm: cold, after: func(*storm, int) *progress.Position { return &foreign }, gap: "foreign"},
		{name: "without a position", warm: both, after: func(*storm, int) *progress.Position { return nil }},
		{name: "at the end", warm: warm, after: func(s *storm, _ int) *progress.Position { return &s.pos[stormHeld-1] }, closed: true},
	} {
		for _, warm := range tt.warm {
			t.Run(fmt.Sprintf("%s, warm %v", tt.name, warm), func(t *testing.T) {
				s := newStorm(t, tt.closed)
				admin := adminClient(t, s.n.redis)
				publish := func() {
					for range stormDuring {
						s.run.log("during")
						time.Sleep(10 * time.Millisecond) // the workflow's pace
					}
				}
				if tt.closed {
					publish = func() {}
				}
				before := commands(t, admin)
				publish() // nobody is there: what it costs is the publisher's
				publisher := commands(t, admin) - before
				last := int64(stormHeld + 2*stormDuring)
				s.learn()
				if warm {
					expect(t, s.n.sse(t, "/v1/workflows/w/stream"), "snapshot")
				}

				before = commands(t, admin)
				begin := time.Now()
				var group sync.WaitGroup
				defer group.Wait()
				group.Go(publish)
				// One after the other: so that each position is a new one.
				all := make([]*stormViewer, stormViewers)
				for i := range all {
					var err error
					if all[i], err = s.open(i, tt.after(s, i)); err != nil {
						t.Fatal(err)
					}
				}
				arrived := time.Since(begin)
				const readers = 50
				for first := range readers {
					group.Go(func() {
						for i := first; i < stormViewers; i += readers {
							var err error
							if tt.closed {
								err = all[i].ended()
							} else {
								err = all[i].readTo(s, last, tt.gap)
							}
							_ = all[i].conn.Close()
							if err != nil {
								t.Errorf("viewer %d: %v", i, err)
								return
							}
						}
					})
				}
				group.Wait()
				cost := commands(t, admin) - before - publisher
				t.Logf("%d viewers came within %v and had all after %v: %d commands, and %d of the publisher", stormViewers,
					arrived.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond), cost, publisher)
				most := int64(36)
				if tt.gap != "" || tt.closed {
					// To be sure, the stream is read again, three commands at
					// most every 50 ms for all who came meanwhile.
					most += int64(60 * time.Since(begin).Seconds())
				}
				if cost > most {
					t.Errorf("%d commands, want at most %d", cost, most)
				}
			})
		}
	}
}

func newStorm(t *testing.T, closed bool) *storm {
	o := redisstore.Options{Prefix: testenv.Prefix(t), MaxLen: 2 * stormHeld}
	s := &storm{n: startOn(t, testenv.Redis(t), o, func(o *subscriber.Options) {
		// Readers read one after the other: what they do not read yet waits.
		o.Config.CompareEvery, o.Config.HeartbeatEvery, o.Config.WriteDeadline = time.Hour, time.Hour, time.Minute
	})}
	s.run = newRun(t, s.n.store, "w", "run")
	for len(s.pos) < stormHeld {
		events := make([]progress.Event, 20)
		for i := range events {
			events[i] = s.run.event(progress.TypeLog, nil)
		}
		if closed && len(s.pos)+len(events) == stormHeld {
			events[len(events)-1] = s.run.event(progress.TypeClosed, nil)
		}
		if _, err := s.run.tryAppend(t.Context(), events...); err != nil {
			t.Fatal(err)
		}
		s.pos = append(s.pos, make([]progress.Position, len(events))...)
	}
	view, err := s.n.store.Read(t.Context(), "w", 1, 0)
	if err != nil || len(view.Events) != stormHeld {
		t.Fatalf("%d events: %v", len(view.Events), err)
	}
	for i, e := range view.Events {
		var event progress.Event
		mustUnmarshal(t, e.Data, &event)
		s.pos[i] = event.Position()
	}
	return s
}

// learn makes the frames of all events so far.
func (s *storm) learn() {
	s.n.t.Helper()
	view, err := s.n.store.Read(s.n.t.Context(), "w", 1, 0)
	if err != nil {
		s.n.t.Fatal(err)
	}
	for _, e := range view.Events {
		var event progress.Event
		mustUnmarshal(s.n.t, e.Data, &event)
		pos := event.Position().String()
		s.known[0] = append(s.known[0], fmt.Appendf(nil, "event: update\nid: %s\ndata: %s\n\n", pos, e.Data))
		s.known[1] = append(s.known[1], hub.TextFrame(fmt.Appendf(nil, `{"event":"update","id":"%s","data":%s}`, pos, e.Data)))
	}
}

// commands returns how many commands Redis has run so far of those that a
// reader uses; those of scripts count, too.
func commands(t testing.TB, admin *redis.Client) (n int64) {
	t.Helper()
	text, err := admin.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		name, _, _ = strings.Cut(name, "|")
		if !slices.Contains([]string{
			"hgetall", "hget", "hmget", "xrange", "xrevrange", "xlen", "xinfo", "exists", "multi", "exec",
			"subscribe", "unsubscribe", "ping", "scan", "keys",
		}, name) {
			continue
		}
		calls, _, _ := strings.Cut(rest, ",")
		count, err := strconv.ParseInt(calls, 10, 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		n += count
	}
	return n
}

// stormViewer reads a stream in a goroutine that it shares with others.
type stormViewer struct {
	conn net.Conn
	in   *bufio.Reader
	ws   bool
	at   int64 // seq that it has
}

// open sends the request of viewer i and does not wait for the answer.
func (s *storm) open(i int, after *progress.Position) (*stormViewer, error) {
	conn, err := net.Dial("tcp", s.n.Addr())
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	v := &stormViewer{conn: conn, in: bufio.NewReaderSize(conn, 32<<10), ws: i%2 == 1, at: -1}
	query := ""
	if after != nil {
		query = "?after=" + after.String()
		v.at = after.Seq
	}
	return v, sendRequest(conn, v.ws, query)
}

func sendRequest(conn net.Conn, ws bool, query string) error {
	head := "GET /v1/workflows/w/stream" + query + " HTTP/1.1\r\nHost: x\r\n\r\n"
	if ws {
		head = "GET /v1/workflows/w/ws" + query + " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
	}
	_, err := io.WriteString(conn, head)
	return err
}

func (v *stormViewer) answer() (int, error) {
	res, err := http.ReadResponse(v.in, nil)
	if err != nil {
		return 0, err
	}
	return res.StatusCode, nil
}

// ended checks that the viewer is told that it has everything.
func (v *stormViewer) ended() error {
	status, err := v.answer()
	if err != nil || !v.ws {
		if err == nil && status != http.StatusNoContent {
			err = fmt.Errorf("status %d", status)
		}
		return err
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(v.in, head); err != nil {
		return err
	}
	if head[0] != 0x88 || binary.BigEndian.Uint16(head[2:]) != 1000 {
		return fmt.Errorf("frame % x", head)
	}
	return nil
}

// readTo reads up to the last event; each follows the one before, behind a
// gap and a snapshot where one is to be.
func (v *stormViewer) readTo(s *storm, last int64, gap string) error {
	if status, err := v.answer(); err != nil || status != http.StatusOK && status != http.StatusSwitchingProtocols {
		return fmt.Errorf("status %d: %w", status, err)
	}
	placed := v.at >= 0 && gap == ""
	gapped := gap == ""
	if !v.ws {
		if _, err := v.in.ReadSlice('\n'); err != nil { // the retry
			return err
		}
		if _, err := v.in.Discard(1); err != nil {
			return err
		}
	}
	known := s.known[0]
	if v.ws {
		known = s.known[1]
	}
	for placed && v.at < int64(len(known)) {
		want := known[v.at]
		got, err := v.in.Peek(len(want))
		if err != nil || !bytes.Equal(got, want) {
			return fmt.Errorf("behind %d came %q, not %q: %w", v.at, got, want, err)
		}
		if _, err := v.in.Discard(len(want)); err != nil {
			return err
		}
		v.at++
	}
	for v.at < last {
		kind, seq, frame, err := v.frame()
		switch {
		case err != nil:
			return fmt.Errorf("behind %d: %w", v.at, err)
		case kind == "gap" && !gapped && bytes.Contains(frame, []byte(`"`+gap+`"`)):
			gapped = true
			continue
		case kind == "snapshot" && gapped && !placed:
			placed = true
		case kind == "update" && placed && seq == v.at+1:
		default:
			return fmt.Errorf("%s %d behind %d", kind, seq, v.at)
		}
		v.at = seq
	}
	return nil
}

// frame returns the next frame's kind and seq, and a gap's data, without
// looking at the rest.
func (v *stormViewer) frame() (kind string, seq int64, data []byte, err error) {
	if v.ws {
		text, err := v.message()
		if err != nil {
			return "", 0, nil, err
		}
		kind = kindOf(between(text, `"event":"`, `"`))
		if kind == "gap" {
			return kind, 0, bytes.Clone(text), nil
		}
		seq, err = seqOf(between(text, `"id":"`, `"`))
		return kind, seq, nil, err
	}
	for {
		line, err := v.in.ReadSlice('\n')
		if err != nil {
			return "", 0, nil, err
		}
		switch {
		case len(line) == 1 && kind != "":
			return kind, seq, data, nil
		case bytes.HasPrefix(line, []byte("event: ")):
			kind = kindOf(line[len("event: ") : len(line)-1])
		case bytes.HasPrefix(line, []byte("id: ")):
			if seq, err = seqOf(line); err != nil {
				return "", 0, nil, err
			}
		case kind == "gap":
			data = bytes.Clone(line)
		}
	}
}

// kindOf is string(text) that allocates for unknown kinds alone.
func kindOf(text []byte) string {
	for _, kind := range []string{"update", "snapshot", "gap", "end"} {
		if string(text) == kind {
			return kind
		}
	}
	return string(text)
}

// seqOf returns the number in the middle of a position.
func seqOf(position []byte) (int64, error) {
	return strconv.ParseInt(string(between(position, "-", "-")), 10, 64)
}

func between(text []byte, before, after string) []byte {
	_, text, _ = bytes.Cut(text, []byte(before))
	text, _, _ = bytes.Cut(text, []byte(after))
	return text
}

// message returns one WebSocket message of text, until the next is read.
func (v *stormViewer) message() ([]byte, error) {
	head, err := v.in.Peek(4)
	if err != nil {
		return nil, err
	}
	skip, length := 2, int(head[1])
	if length == 126 {
		skip, length = 4, int(binary.BigEndian.Uint16(head[2:]))
	}
	if head[0] != 0x81 || length > v.in.Size()-4 {
		return nil, fmt.Errorf("frame % x", head)
	}
	text, err := v.in.Peek(skip + length)
	if err != nil {
		return nil, err
	}
	_, err = v.in.Discard(len(text)) // which leaves it where it is
	return text[skip:], err
}

// Of a thousand who come at once, as many get in as there are places; the
// others are told so without waiting for anything, and when to come again.
func TestStormOnTheLimit(t *testing.T) {
	const viewers, places = 1000, 50
	server, prefix := testenv.Redis(t), testenv.Prefix(t)
	front := newProxy(t, server.Addr)
	slow, err := redisstore.Open(t.Context(), "redis://"+front.listener.Addr().String(), redisstore.Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slow.Close() })
	n := startWith(t, server, slow, func(o *subscriber.Options) {
		o.Config.MaxViewers, o.Config.Drain, o.Config.OpenWait = places, 5*time.Second, time.Minute
	})
	r := newRun(t, n.store, "w", "run")
	var pos []progress.Position
	for range 100 {
		pos = append(pos, r.log("x"))
	}
	conns := make([]net.Conn, viewers)
	for i := range conns {
		conn, err := net.Dial("tcp", n.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		conns[i] = conn
		defer func() { _ = conn.Close() }()
	}
	// While Redis does not answer, those who got in wait. So every answer
	// until it does is one that waited for nothing.
	front.gate.Lock()
	answering := sync.OnceFunc(front.gate.Unlock)
	defer answering()
	type answer struct {
		status int
		retry  string
		err    error
	}
	answers := make(chan answer, viewers)
	var group sync.WaitGroup
	for i, conn := range conns {
		after := "?after=" + pos[rand.N(len(pos)-1)].String()
		group.Go(func() {
			if err := sendRequest(conn, i%2 == 1, after); err != nil {
				answers <- answer{err: err}
				return
			}
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				answers <- answer{err: err}
				return
			}
			answers <- answer{status: res.StatusCode, retry: res.Header.Get("Retry-After")}
		})
	}
	retries := map[string]int{}
	for range viewers - places {
		a := <-answers
		seconds, err := strconv.Atoi(a.retry)
		if err = errors.Join(a.err, err); err != nil || a.status != http.StatusServiceUnavailable || seconds < 1 || seconds > 15 {
			t.Fatalf("answered %d, Retry-After %q: %v", a.status, a.retry, err)
		}
		retries[a.retry]++
	}
	if len(retries) < 5 {
		t.Errorf("those who were refused come again after %v seconds", retries)
	}
	answering()
	for range places {
		if a := <-answers; a.status != http.StatusOK && a.status != http.StatusSwitchingProtocols {
			t.Fatalf("one with a place was answered %d: %v", a.status, a.err)
		}
	}
	group.Wait()
	eventually(t, "as many viewers as places", func() bool { return n.Hub().Conns("") == places })
}
