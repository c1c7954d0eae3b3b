package subscriber_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/subscriber"
	"github.com/runcast/runcast/subscriber/hub"
)

// One subscription per topic and node, however many viewers; none a while
// after the last.
func TestOneSubscription(t *testing.T) {
	n := start(t, func(o *subscriber.Options) { o.Config.Linger = 20 * time.Millisecond })
	admin := adminClient(t, n.redis)
	channels := func() []string {
		list, err := admin.PubSubChannels(t.Context(), n.prefix+"*").Result()
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	var all []client
	for range 20 {
		a, b := n.sse(t, "/v1/workflows/w/stream"), n.ws(t, "/v1/workflows/w/ws")
		expect(t, a, "snapshot")
		expect(t, b, "snapshot")
		all = append(all, a, b)
	}
	if got := channels(); len(got) != 1 {
		t.Errorf("the channels %q", got)
	} else if counts, err := admin.PubSubNumSub(t.Context(), got[0]).Result(); err != nil || counts[got[0]] != 1 {
		t.Errorf("subscriptions: %v, %v", counts, err)
	}
	for _, c := range all {
		c.close()
	}
	eventually(t, "unsubscribed", func() bool { return len(channels()) == 0 })
	eventually(t, "without viewers", func() bool { return n.Hub().Conns("") == 0 && n.Hub().Topics() == 0 })
}

func TestViewerLimit(t *testing.T) {
	n := start(t, func(o *subscriber.Options) { o.Config.MaxViewers = 2 })
	a := n.sse(t, "/v1/workflows/w/stream")
	expect(t, a, "snapshot")
	expect(t, n.ws(t, "/v1/workflows/w/ws"), "snapshot")
	for _, path := range []string{"/v1/workflows/w/stream", "/v1/stream?workflow=w"} {
		res, _ := get(t, n.url+path)
		if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %s, Retry-After %q", path, res.Status, res.Header.Get("Retry-After"))
		}
	}
	if _, res, err := websocket.Dial(t.Context(), n.url+"/v1/ws", nil); err == nil || res.StatusCode != 503 {
		t.Errorf("WebSocket: %v", err)
	}
	a.close()
	eventually(t, "let in", func() bool {
		res, cancel := get(t, n.url+"/v1/workflows/w/stream")
		defer cancel()
		return res.StatusCode == 200
	})
}

// A viewer that reads nothing is closed, counted, and holds nobody up.
func TestSlowViewerIsClosed(t *testing.T) {
	for _, kind := range []string{"stream", "ws"} {
		t.Run(kind, func(t *testing.T) {
			n := start(t, func(o *subscriber.Options) { o.Config.WriteDeadline = 300 * time.Millisecond })
			conn, err := net.Dial("tcp", n.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
			fmt.Fprintf(conn, "GET /v1/workflows/w/%s HTTP/1.1\r\nHost: x\r\n", kind)
			if kind == "ws" {
				fmt.Fprint(conn, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n")
			}
			fmt.Fprint(conn, "\r\n")
			if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			fast := n.sse(t, "/v1/workflows/w/stream")
			expect(t, fast, "snapshot")
			r := newRun(t, n.store, "w", "run")
			big := strings.Repeat("x", 100_000)
			for seq := int64(1); n.Hub().Metrics().Closes(hub.CloseSlow) == 0; seq++ {
				if seq > 500 {
					t.Fatal("the slow viewer is not closed")
				}
				r.log(big)
				if f := expect(t, fast, "update"); f.event(t).Seq != seq {
					t.Fatalf("seq %d, want %d", f.event(t).Seq, seq)
				}
			}
		})
	}
}

// overTLS serves the node's routes over TLS, and returns where, with clients
// that speak HTTP/1.1 and HTTP/2.
func overTLS(t *testing.T, n *node) (url string, h1, h2 *http.Client) {
	t.Helper()
	server := httptest.NewUnstartedServer(n.Handler())
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	h2 = server.Client()
	h1 = &http.Client{Transport: &http.Transport{
		TLSClientConfig: h2.Transport.(*http.Transport).TLSClientConfig,
		TLSNextProto:    map[string]func(string, *tls.Conn) http.RoundTripper{},
	}}
	t.Cleanup(h1.CloseIdleConnections)
	return server.URL, h1, h2
}

// TLS and HTTP/2 take the ordinary way; what viewers see is the same.
func TestOverTLS(t *testing.T) {
	n := start(t)
	url, h1, h2 := overTLS(t, n)
	for i, tt := range []struct {
		name   string
		client *http.Client
		proto  int
	}{{"HTTP/1.1", h1, 1}, {"HTTP/2", h2, 2}} {
		t.Run(tt.name, func(t *testing.T) {
			id := fmt.Sprint("w", i)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			res, err := request(ctx, tt.client, url+"/v1/workflows/"+id+"/stream")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			if res.ProtoMajor != tt.proto {
				t.Fatalf("protocol %s", res.Proto)
			}
			follow(t, n, id, &sseClient{res: res, lines: bufio.NewReader(res.Body), cancel: cancel})
			res2, err := request(ctx, tt.client, url+"/v1/workflows/"+id+"/stream", "Last-Event-ID", lastOf(t, n, id))
			if err != nil {
				t.Fatal(err)
			}
			_ = res2.Body.Close()
			if res2.StatusCode != http.StatusNoContent {
				t.Errorf("at the end: %s", res2.Status)
			}
		})
	}
	t.Run("WebSocket", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		conn, _, err := websocket.Dial(ctx, url+"/v1/workflows/ws/ws", &websocket.DialOptions{HTTPClient: h1})
		if err != nil {
			t.Fatal(err)
		}
		c := &wsClient{conn: conn, ctx: ctx, cancel: cancel}
		defer c.close()
		follow(t, n, "ws", c)
	})
	eventually(t, "without viewers", func() bool { return n.Hub().Conns("") == 0 })
}

func lastOf(t *testing.T, n *node, id string) string {
	s, err := n.store.Snapshot(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return s.Position().String()
}

// follow writes a run and sees it from snapshot to end.
func follow(t *testing.T, n *node, id string, c client) {
	t.Helper()
	expect(t, c, "snapshot")
	r := newRun(t, n.store, id, "run")
	for seq := int64(1); seq <= 20; seq++ {
		r.log("x")
		if f := expect(t, c, "update"); f.event(t).Seq != seq {
			t.Fatalf("seq %d, want %d", f.event(t).Seq, seq)
		}
	}
	r.add(progress.TypeClosed)
	expect(t, c, "end")
	expectEOF(t, c)
}

func TestHeartbeats(t *testing.T) {
	n := start(t, func(o *subscriber.Options) { o.Config.HeartbeatEvery = 50 * time.Millisecond })
	s := n.sse(t, "/v1/workflows/w/stream")
	expect(t, s, "snapshot")
	pings := make(chan struct{}, 100)
	conn, _, err := websocket.Dial(t.Context(), n.url+"/v1/workflows/w/ws", &websocket.DialOptions{
		OnPingReceived: func(context.Context, []byte) bool { pings <- struct{}{}; return true },
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &wsClient{conn: conn, ctx: t.Context(), cancel: func() {}}
	defer w.close()
	expect(t, w, "snapshot")
	got := make(chan frame, 1)
	go func() {
		f, _ := w.next()
		got <- f
	}()
	for range 5 { // more than may stay unanswered
		<-pings
	}
	newRun(t, n.store, "w", "run").log("1")
	if f := <-got; f.Kind != "update" {
		t.Errorf("got %+v", f)
	}
	expect(t, s, "update")
	if s.beats < 3 {
		t.Errorf("%d comments", s.beats)
	}
}

// A WebSocket client that answers no ping is closed, with a close frame.
func TestDeadWebSocket(t *testing.T) {
	n := start(t, func(o *subscriber.Options) { o.Config.HeartbeatEvery = 50 * time.Millisecond })
	conn, _, err := websocket.Dial(t.Context(), n.url+"/v1/workflows/w/ws", &websocket.DialOptions{
		OnPingReceived: func(context.Context, []byte) bool { return false },
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &wsClient{conn: conn, ctx: t.Context(), cancel: func() {}}
	defer c.close()
	expect(t, c, "snapshot")
	if _, err := c.next(); websocket.CloseStatus(err) != websocket.StatusTryAgainLater {
		t.Errorf("closed with %v", err)
	}
	eventually(t, "counted", func() bool { return n.Hub().Metrics().Closes(hub.CloseDead) == 1 })
}

// A taken port is an error that names the setting.
func TestTakenPort(t *testing.T) {
	n := start(t)
	s, err := subscriber.New(subscriber.Options{Store: n.store, Config: subscriber.Config{Addr: n.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "--addr") {
		t.Errorf("got %v", err)
	}
}
