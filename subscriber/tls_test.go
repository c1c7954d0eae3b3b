package subscriber_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/runcast/runcast/subscriber"
	"github.com/runcast/runcast/subscriber/hub"
)

// The limit and the drain are the same over TLS and HTTP/2, on the server's
// own listener.
func TestLimitAndDrainOverTLS(t *testing.T) {
	for _, transport := range transports[2:] {
		t.Run(transport, func(t *testing.T) {
			n, files := startFor(t, transport, func(c *subscriber.Config) { c.MaxViewers, c.Drain = 6, 5*time.Second })
			var all []client
			for range 6 {
				c := openOver(t, transport, n.url, files.Client, "w", "")
				expect(t, c, "snapshot")
				all = append(all, c)
			}
			res, _ := getVia(t, secureClient(t, files.Client, 2), n.url+"/v1/workflows/w/stream")
			if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || res.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s, Retry-After %q", res.Status, res.Header.Get("Retry-After"))
			}
			_, res, err := websocket.Dial(t.Context(), n.url+"/v1/workflows/w/ws", &websocket.DialOptions{
				HTTPClient: secureClient(t, files.Client, 1),
			})
			if err == nil || res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
				t.Errorf("WebSocket: %v", err)
			}

			stopped := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				defer cancel()
				stopped <- n.Stop(ctx)
			}()
			waits := map[string]bool{}
			for _, c := range all {
				f, err := c.next()
				var wait string
				switch c := c.(type) {
				case *sseClient:
					wait = c.retry
					if !errors.Is(err, io.EOF) {
						t.Errorf("got %+v, %v", f, err)
					}
				case *wsClient:
					if websocket.CloseStatus(err) != websocket.StatusServiceRestart {
						t.Errorf("closed with %v", err)
					} else {
						_, wait, _ = strings.Cut(err.Error(), "reconnect in ")
						wait, _, _ = strings.Cut(wait, " ms")
					}
				}
				if ms, err := strconv.Atoi(wait); err != nil || ms < 1000 || ms > 6000 {
					t.Errorf("told to wait %q ms", wait)
				}
				waits[wait] = true
			}
			if len(waits) < 3 {
				t.Errorf("6 viewers reconnect after %v ms", waits)
			}
			if err := <-stopped; err != nil {
				t.Error(err)
			}
			if got := n.Hub().Metrics().Closes(hub.CloseDrain); got != 6 {
				t.Errorf("%d closed by the drain", got)
			}
		})
	}
}

// WebSockets are HTTP/1.1; over HTTP/2 the answer says so.
func TestWebSocketOverHTTP2IsRefused(t *testing.T) {
	n := start(t)
	url, trust := n.secure()
	res, _ := getVia(t, secureClient(t, trust, 2), url+"/v1/workflows/w/ws")
	if res.StatusCode != http.StatusUpgradeRequired || res.ProtoMajor != 2 {
		t.Errorf("%s over %s", res.Status, res.Proto)
	}
}

// A certificate that is no good is an error at the start.
func TestBadCertificate(t *testing.T) {
	n := start(t)
	c := subscriber.Config{Addr: "127.0.0.1:0"}
	c.TLS.Cert, c.TLS.Key = "none.pem", "none.pem"
	s, err := subscriber.New(subscriber.Options{Store: n.store, Config: c})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "--tls-cert") || !strings.Contains(err.Error(), "none.pem") {
		t.Errorf("got %v", err)
	}
}
