package subscriber_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/subscriber"
)

// node is a running subscriber and a writer beside it, on real Redis.
type node struct {
	*subscriber.Server
	t     *testing.T
	url   string
	store *redisstore.Store
	redis *testenv.RedisServer
	// prefix of the keys
	prefix string
	// front serves the same over TLS, once somebody wants it.
	front *httptest.Server
}

func start(t *testing.T, change ...func(*subscriber.Options)) *node {
	t.Helper()
	redis := testenv.Redis(t)
	return startOn(t, redis, redisstore.Options{Prefix: testenv.Prefix(t)}, change...)
}

func startOn(t *testing.T, redis *testenv.RedisServer, o redisstore.Options, change ...func(*subscriber.Options)) *node {
	t.Helper()
	store, err := redisstore.Open(t.Context(), redis.URL(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	n := startWith(t, redis, store, change...)
	n.prefix = o.Prefix
	return n
}

func startWith(t *testing.T, redis *testenv.RedisServer, store *redisstore.Store, change ...func(*subscriber.Options)) *node {
	t.Helper()
	so := subscriber.Options{Store: store}
	so.Config.Addr = "127.0.0.1:0"
	so.Config.Drain = 10 * time.Millisecond
	for _, f := range change {
		f(&so)
	}
	s, err := subscriber.New(so)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := &node{Server: s, t: t, url: "http://" + s.Addr(), store: store, redis: redis}
	if so.Config.TLS.Cert != "" {
		n.url = "https://" + s.Addr()
	}
	t.Cleanup(n.stop)
	return n
}

func (n *node) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := n.Stop(ctx); err != nil {
		n.t.Errorf("stop: %v", err)
	}
}

// secure returns the address under which the node is served over TLS, and
// what a client needs to trust it.
func (n *node) secure() (string, *tls.Config) {
	if n.front == nil {
		n.front = httptest.NewUnstartedServer(n.Handler())
		n.front.EnableHTTP2, n.front.Config.HTTP2 = true, n.HTTP2()
		n.front.StartTLS()
		n.t.Cleanup(n.front.Close)
	}
	return n.front.URL, n.front.Client().Transport.(*http.Transport).TLSClientConfig
}

// secureClient speaks HTTP/1.1 or HTTP/2 over TLS.
func secureClient(t testing.TB, trust *tls.Config, proto int) *http.Client {
	transport := &http.Transport{TLSClientConfig: trust.Clone(), Protocols: new(http.Protocols)}
	transport.TLSClientConfig.NextProtos = nil
	transport.Protocols.SetHTTP1(proto == 1)
	transport.Protocols.SetHTTP2(proto == 2)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// run writes the events of one run.
type run struct {
	t     testing.TB
	store *redisstore.Store
	id    string
	fence redisstore.Fence
}

// runTime is the time of the newest run, in Unix ms. Run times must rise, and
// two runs of a test often begin within the same millisecond.
var runTime atomic.Int64

func newRun(t testing.TB, store *redisstore.Store, id, runID string) *run {
	runTime.CompareAndSwap(0, time.Now().UnixMilli())
	return &run{t: t, store: store, id: id, fence: redisstore.Fence{
		RunID: runID, Chain: runID, RunTime: time.UnixMilli(runTime.Add(1)),
	}}
}

func (r *run) event(typ progress.EventType, change func(*progress.Event)) progress.Event {
	e := progress.Event{WorkflowID: r.id, RunID: r.fence.RunID, Chain: r.fence.Chain, Type: typ, Time: time.Now()}
	switch typ {
	case progress.TypeStarted:
		e.Status = progress.StatusRunning
	case progress.TypeClosed:
		e.Status = progress.StatusCompleted
	}
	if change != nil {
		change(&e)
	}
	return e
}

func (r *run) tryAppend(ctx context.Context, events ...progress.Event) (progress.Position, error) {
	res, err := r.store.Append(ctx, redisstore.Append{WorkflowID: r.id, Fence: r.fence, Events: events})
	return res.Position, err
}

func (r *run) add(typ progress.EventType) progress.Position { return r.addWith(typ, nil) }

func (r *run) addWith(typ progress.EventType, change func(*progress.Event)) progress.Position {
	r.t.Helper()
	pos, err := r.tryAppend(context.Background(), r.event(typ, change))
	if err != nil {
		r.t.Fatal(err)
	}
	return pos
}

func (r *run) log(text string) progress.Position {
	r.t.Helper()
	return r.addWith(progress.TypeLog, func(e *progress.Event) { e.Message = text })
}

// frame is what a client sees.
type frame struct {
	Kind string
	ID   string
	Data json.RawMessage
	// Topic is set on many-topic connections.
	Topic map[string]string
}

func (f frame) event(t testing.TB) progress.Event {
	t.Helper()
	var e progress.Event
	if err := json.Unmarshal(f.Data, &e); err != nil {
		t.Fatalf("frame %+v: %v", f, err)
	}
	return e
}

func (f frame) snapshot(t testing.TB) progress.Snapshot {
	t.Helper()
	var s progress.Snapshot
	if err := json.Unmarshal(f.Data, &s); err != nil {
		t.Fatalf("frame %+v: %v", f, err)
	}
	return s
}

// client reads one stream, SSE or WebSocket.
type client interface {
	// next returns the next frame, or an error at the end.
	next() (frame, error)
	close()
}

// sseClient reads Server-Sent Events as a browser does.
type sseClient struct {
	via    *http.Client
	res    *http.Response
	lines  *bufio.Reader
	cancel context.CancelFunc
	many   bool
	lastID string
	retry  string
	beats  int
}

func (c *sseClient) close() {
	c.cancel()
	_ = c.res.Body.Close()
}

func (c *sseClient) next() (frame, error) {
	var f frame
	for {
		line, err := c.lines.ReadString('\n')
		if err != nil {
			return f, err
		}
		line = strings.TrimSuffix(line, "\n")
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "":
			if line == ":" {
				c.beats++
			}
			if line != "" || f.Kind == "" {
				continue
			}
			f.ID = c.lastID
			if c.many {
				var wrapped struct {
					Topic map[string]string
					Data  json.RawMessage
				}
				if err := json.Unmarshal(f.Data, &wrapped); err != nil {
					return f, err
				}
				f.Topic, f.Data = wrapped.Topic, wrapped.Data
			}
			return f, nil
		case "event":
			f.Kind = value
		case "id":
			c.lastID = value
		case "data":
			f.Data = append(f.Data, value...)
		case "retry":
			c.retry = value
		}
	}
}

// get makes a request that the test's end, or a minute, cuts off.
func get(t testing.TB, url string, headers ...string) (*http.Response, context.CancelFunc) {
	t.Helper()
	return getVia(t, http.DefaultClient, url, headers...)
}

func getVia(t testing.TB, c *http.Client, url string, headers ...string) (*http.Response, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	res, err := request(ctx, c, url, headers...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res, cancel
}

func request(ctx context.Context, c *http.Client, url string, headers ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return c.Do(req)
}

func (n *node) sse(t testing.TB, path string, headers ...string) *sseClient {
	t.Helper()
	return openSSE(t, http.DefaultClient, n.url+path, headers...)
}

func openSSE(t testing.TB, via *http.Client, url string, headers ...string) *sseClient {
	t.Helper()
	res, cancel := getVia(t, via, url, headers...)
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		body, _ := io.ReadAll(res.Body)
		t.Fatalf("GET %s: %s %q: %s", url, res.Status, res.Header.Get("Content-Type"), body)
	}
	many := strings.HasPrefix(res.Request.URL.Path, "/v1/stream")
	return &sseClient{via: via, res: res, lines: bufio.NewReader(res.Body), cancel: cancel, many: many}
}

// wsClient reads a WebSocket.
type wsClient struct {
	conn   *websocket.Conn
	ctx    context.Context
	cancel context.CancelFunc
}

func (c *wsClient) close() {
	_ = c.conn.CloseNow()
	c.cancel()
}

func (c *wsClient) next() (frame, error) {
	typ, data, err := c.conn.Read(c.ctx)
	if err != nil {
		return frame{}, err
	}
	if typ != websocket.MessageText {
		return frame{}, fmt.Errorf("message type %v", typ)
	}
	var m struct {
		Topic map[string]string
		Event string
		ID    string
		Data  json.RawMessage
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return frame{}, fmt.Errorf("message %q: %w", data, err)
	}
	return frame{Kind: m.Event, ID: m.ID, Data: m.Data, Topic: m.Topic}, nil
}

func (n *node) ws(t testing.TB, path string) *wsClient {
	t.Helper()
	return openWS(t, http.DefaultClient, n.url+path)
}

func openWS(t testing.TB, via *http.Client, url string) *wsClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	conn, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: via, Subprotocols: []string{"runcast.v1.json"}})
	if err != nil {
		t.Fatalf("dial %s: %v", url, err)
	}
	if conn.Subprotocol() != "runcast.v1.json" {
		t.Fatalf("subprotocol %q", conn.Subprotocol())
	}
	conn.SetReadLimit(1 << 20)
	c := &wsClient{conn: conn, ctx: ctx, cancel: cancel}
	t.Cleanup(c.close)
	return c
}

// each runs a test over every transport. Open takes the workflow's ID and the
// query.
func each(t *testing.T, f func(t *testing.T, open func(n *node, id, query string) client)) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			f(t, func(n *node, id, query string) client {
				base, trust := n.url, (*tls.Config)(nil)
				if isSecure(transport) {
					base, trust = n.secure()
				}
				return openOver(t, transport, base, trust, id, query)
			})
		})
	}
}

// transports are all ways by which a viewer comes.
var transports = []string{"sse", "ws", "sse+tls", "ws+tls", "sse+h2"}

func isSecure(transport string) bool { return strings.Contains(transport, "+") }

// openOver opens a workflow's stream; trust is for the transports over TLS.
func openOver(t testing.TB, transport, base string, trust *tls.Config, id, query string) client {
	t.Helper()
	via := http.DefaultClient
	switch {
	case strings.HasSuffix(transport, "+h2"):
		via = secureClient(t, trust, 2)
	case isSecure(transport):
		via = secureClient(t, trust, 1)
	}
	if strings.HasPrefix(transport, "ws") {
		return openWS(t, via, base+"/v1/workflows/"+id+"/ws"+query)
	}
	return openSSE(t, via, base+"/v1/workflows/"+id+"/stream"+query)
}

// expect reads the next frame, of the given kind.
func expect(t testing.TB, c client, kind string) frame {
	t.Helper()
	f, err := c.next()
	if err != nil {
		t.Fatalf("waiting for %s: %v", kind, err)
	}
	if f.Kind != kind {
		t.Fatalf("got %s %s %s, want %s", f.Kind, f.ID, f.Data, kind)
	}
	return f
}

// expectEOF reads to the end, which has to come with nothing before it.
func expectEOF(t testing.TB, c client) {
	t.Helper()
	f, err := c.next()
	if err == nil {
		t.Fatalf("got %s %s, want the end of the connection", f.Kind, f.Data)
	}
	if _, ok := c.(*wsClient); ok {
		if code := websocket.CloseStatus(err); code != websocket.StatusNormalClosure {
			t.Fatalf("closed with %v (%v), want 1000", code, err)
		}
	} else if err != io.EOF {
		t.Fatalf("ended with %v, want EOF", err)
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in 20 s: not %s", what)
		}
	}
}
