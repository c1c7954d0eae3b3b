package subscriber_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/runcast/runcast/subscriber"
	"github.com/runcast/runcast/subscriber/hub"
)

func TestDrainSpreadsReconnects(t *testing.T) {
	n := start(t, func(o *subscriber.Options) { o.Config.Drain = 5 * time.Second })
	var streams []*sseClient
	var sockets []*wsClient
	for range 10 {
		s, w := n.sse(t, "/v1/workflows/w/stream"), n.ws(t, "/v1/workflows/w/ws")
		expect(t, s, "snapshot")
		expect(t, w, "snapshot")
		streams, sockets = append(streams, s), append(sockets, w)
	}
	stopped := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		stopped <- n.Stop(ctx)
	}()
	waits, reasons := map[int]bool{}, map[int]bool{}
	among := func(waits map[int]bool, text string) {
		ms, err := strconv.Atoi(text)
		if err != nil || ms < 1000 || ms > 6000 {
			t.Errorf("a viewer is to wait %q ms", text)
		}
		waits[ms] = true
	}
	for _, s := range streams {
		if f, err := s.next(); err != io.EOF {
			t.Errorf("got %+v, %v", f, err)
		}
		among(waits, s.retry)
	}
	for _, w := range sockets {
		_, err := w.next()
		var closed websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != websocket.StatusServiceRestart {
			t.Fatalf("closed with %v", err)
		}
		text, begins := strings.CutPrefix(closed.Reason, "reconnect in ")
		text, ends := strings.CutSuffix(text, " ms")
		if !begins || !ends {
			t.Errorf("closed with %q", closed.Reason)
		}
		among(reasons, text)
	}
	if len(waits) < 5 || len(reasons) < 5 {
		t.Errorf("of 10 viewers each, the streams reconnect after %v ms, the sockets after %v ms", waits, reasons)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if got := n.Hub().Metrics().Closes(hub.CloseDrain); got != 20 {
		t.Errorf("%d closed by the drain", got)
	}
	if err := n.Stop(t.Context()); err != nil {
		t.Errorf("second Stop: %v", err)
	}
}

// stuck opens a stream that is never read, and fills it.
func stuck(t *testing.T, n *node) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", n.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	fmt.Fprint(conn, "GET /v1/workflows/full/stream HTTP/1.1\r\nHost: x\r\n\r\n")
	eventually(t, "a viewer", func() bool { return n.Hub().Conns("") == 1 })
	r := newRun(t, n.store, "full", "run")
	big := strings.Repeat("x", 100_000)
	full := func() bool { return n.Hub().Metrics().SocketFull.Load() > 0 }
	for range 500 {
		r.log(big)
		if full() {
			break
		}
	}
	eventually(t, "full", full)
	return conn
}

// While the drain waits for a viewer, the node says that it is leaving, and
// takes nobody in.
func TestDraining(t *testing.T) {
	n := start(t, func(o *subscriber.Options) { o.Config.WriteDeadline = time.Minute })
	viewer := stuck(t, n)
	if res, _ := get(t, n.url+"/readyz"); res.StatusCode != 200 {
		t.Fatalf("/readyz before: %s", res.Status)
	}
	quiet, err := net.Dial("tcp", n.Addr()) // holds nothing up
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = quiet.Close() }()
	addr, url := n.Addr(), n.url
	stopped := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		stopped <- n.Stop(ctx)
	}()
	eventually(t, "draining", func() bool {
		res, cancel := get(t, url+"/readyz")
		defer cancel()
		return res.StatusCode == 503
	})
	for _, path := range []string{"/readyz", "/v1/workflows/w/stream", "/v1/stream?workflow=w"} {
		res, _ := get(t, url+path)
		body, _ := io.ReadAll(res.Body)
		if res.StatusCode != 503 || !strings.Contains(string(body), "stopping") {
			t.Errorf("GET %s: %s %s", path, res.Status, body)
		}
		if wait, err := strconv.Atoi(res.Header.Get("Retry-After")); path != "/readyz" && (err != nil || wait < 1) {
			t.Errorf("GET %s: Retry-After %q", path, res.Header.Get("Retry-After"))
		}
	}
	for _, path := range []string{"/v1/workflows/w/ws", "/v1/ws"} {
		conn, res, err := websocket.Dial(t.Context(), url+path, nil)
		if err == nil {
			_ = conn.CloseNow()
			t.Errorf("%s was let in", path)
		} else if res == nil || res.StatusCode != 503 {
			t.Errorf("%s: %v", path, err)
		}
	}
	if res, _ := get(t, url+"/livez"); res.StatusCode != 200 {
		t.Errorf("/livez: %s", res.Status)
	}
	named := make(chan string, 1)
	go func() { named <- n.Addr() }()
	select {
	case got := <-named:
		if got != addr {
			t.Errorf("it listens on %q, want %q", got, addr)
		}
	case <-stopped:
		t.Fatal("the drain did not wait for the viewer")
	case <-time.After(10 * time.Second):
		t.Error("Addr waits for the drain")
	}
	metrics, _ := get(t, url+"/metrics")
	body, _ := io.ReadAll(metrics.Body)
	if want := `runcast_subscriber_refused_total{reason="draining"} 4`; !strings.Contains(string(body), want) {
		t.Errorf("metrics lack %s", want)
	}
	begin := time.Now()
	_ = viewer.Close()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("it stopped %v after the last viewer had left", took)
	}
}
