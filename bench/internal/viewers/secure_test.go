package viewers

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// secureServer gives each viewer's stream ten events, over TLS and HTTP/2. A
// workflow "short" ends then.
func secureServer(t *testing.T, start <-chan struct{}) string {
	wait := func(r *http.Request) {
		select {
		case <-start:
		case <-r.Context().Done():
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/workflows/{id}/stream", func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.Flush()
		wait(r)
		for seq := 1; seq <= 10; seq++ {
			fmt.Fprint(w, event(seq))
			_ = rc.Flush()
		}
		if r.PathValue("id") != "short" {
			<-r.Context().Done()
		}
	})
	mux.HandleFunc("GET /v1/workflows/{id}/ws", func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"runcast.v1.json"}})
		if err != nil {
			return
		}
		defer conn.CloseNow()
		ctx := conn.CloseRead(r.Context())
		wait(r)
		for seq := 1; seq <= 10; seq++ {
			_, data, _ := strings.Cut(event(seq), "data: ")
			if conn.Write(ctx, websocket.MessageText, []byte(strings.TrimSpace(data))) != nil {
				return
			}
		}
		<-ctx.Done()
	})
	s := httptest.NewUnstartedServer(mux)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "https://")
}

func TestSecure(t *testing.T) {
	const n = 130 // more than one connection of HTTP/2
	for _, tt := range []struct {
		name string
		c    Config
		want Counts
	}{
		{"SSE over TLS", Config{Secure: TLS}, Counts{Delivered: n * 10}},
		{"WebSocket over TLS", Config{Secure: TLS, WebSocket: true}, Counts{Delivered: n * 10}},
		{"HTTP/2", Config{Secure: HTTP2}, Counts{Delivered: n * 10}},
		{"HTTP/2, half of them closed", Config{Secure: HTTP2, Workflows: []string{"w", "short"}}, Counts{Delivered: n * 10, Closed: n / 2}},
		{"TLS, half of them closed", Config{Secure: TLS, Workflows: []string{"w", "short"}}, Counts{Delivered: n * 10, Closed: n / 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := make(chan struct{})
			c := tt.c
			c.Server, c.Viewers = secureServer(t, start), n
			if c.Workflows == nil {
				c.Workflows = []string{"w"}
			}
			v, err := New(c)
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			if err := v.Open(n, 30*time.Second); err != nil {
				t.Fatal(err)
			}
			v.Begin(make([]int64, len(c.Workflows)))
			close(start)
			if err := v.WaitSettled(n*10, 30*time.Second); err != nil {
				t.Fatal(err)
			}
			var got Counts
			for begin := time.Now(); time.Since(begin) < 10*time.Second && got.Closed != tt.want.Closed || got.Delivered == 0; time.Sleep(time.Millisecond) {
				got = v.Counts()
			}
			tt.want.Bytes, tt.want.Latency = got.Bytes, got.Latency
			if got != tt.want {
				t.Errorf("got %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestSecureRefusal(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	for _, way := range []Secure{TLS, HTTP2} {
		v, err := New(Config{Server: strings.TrimPrefix(s.URL, "https://"), Viewers: 2, Workflows: []string{"w"}, Secure: way})
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Open(2, 10*time.Second); err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("%s: a refusal is no error: %v", way, err)
		}
		v.Close()
	}
	for _, c := range []Config{{Secure: "ssh"}, {Secure: HTTP2, WebSocket: true}, {Secure: TLS, Spread: time.Second}} {
		c.Server, c.Viewers, c.Workflows = "127.0.0.1:80", 1, []string{"w"}
		if _, err := New(c); err == nil {
			t.Errorf("%+v is possible", c)
		}
	}
}

// What takes nothing is connected, and no viewer.
func TestStuck(t *testing.T) {
	start := make(chan struct{})
	v, err := New(Config{Server: serve(t, start, 8), Viewers: 1, Workflows: []string{"w"}})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if err := v.Open(1, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := v.OpenStuck(3); err != nil || len(v.stuck) != 3 {
		t.Fatal(len(v.stuck), err)
	}
	v.Begin([]int64{7})
	close(start)
	if err := v.WaitSettled(1, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if c := v.Counts(); c.Delivered != 1 || c.Closed != 0 {
		t.Errorf("%+v", c)
	}
	if err := v.OpenStuck(maxStuck + 1); err == nil {
		t.Error("any number is possible")
	}
}
