package subscriber_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// What a request asks for and would not get is refused, not passed over.
func TestQueries(t *testing.T) {
	n := start(t)
	newRun(t, n.store, "w", "run").log("1")
	handshake := []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="}
	for _, tt := range []struct{ path, detail string }{
		{"/v1/workflows/w/stream?mode=fast", `"fast"`},
		{"/v1/workflows/w/stream?mod=latest", `"mod"; this takes after, mode, run`},
		{"/v1/workflows/w/stream?mode=all&mode=latest", "mode is given 2 times"},
		{"/v1/workflows/w/stream?run=%zz", "query"},
		{"/v1/workflows/w/stream?mode=all;run=x", "query"},
		{"/v1/workflows/w/ws?mode=fast", `"fast"`},
		{"/v1/workflows/w/ws?workflow=a", `"workflow"`},
		{"/v1/stream?workflow=w&mode=fast", `"fast"`},
		{"/v1/stream?workflow=w&run=x", `"run"`},
		{"/v1/stream?tag=a&mode=fast", `"fast"`},
		{"/v1/stream?tag=a&mode=latest", "mode is for workflows"},
		{"/v1/stream?tag=a&after=0-0", "after is for workflows"},
		{"/v1/ws?tag=a&mode=fast", `"fast"`},
		{"/v1/ws?tag=a&mode=latest", "mode is for workflows"},
		{"/v1/ws?workflow=w&after=0-0", `"after"`},
		{"/v1/ws?workflow=", "one workflow or one tag"},
		{"/v1/ws?tag=", "one workflow or one tag"},
		{"/v1/workflows/w?mode=latest", `"mode"; this takes none`},
		{"/v1/workflows/w/events?from=1", `"from"; this takes after, limit`},
		{"/v1/workflows?tag=a&tag=b", "tag is given 2 times"},
		{"/v1/workflows?state=running", `"state"; this takes cursor, limit, status, tag, type`},
	} {
		var headers []string
		if strings.Contains(tt.path, "/ws") {
			headers = handshake
		}
		res, cancel := get(t, n.url+tt.path, headers...)
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s", tt.path, res.Status)
			cancel()
			continue
		}
		body, _ := io.ReadAll(res.Body)
		var p struct{ Detail string }
		if err := json.Unmarshal(body, &p); err != nil || !strings.Contains(p.Detail, tt.detail) || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %q, want it to say %s", tt.path, body, tt.detail)
		}
	}
}

// The same for the messages of a WebSocket.
func TestMessageFields(t *testing.T) {
	n := start(t)
	c := n.ws(t, "/v1/ws")
	for _, tt := range []struct{ text, why string }{
		{`{"type":"subscribe","tag":"a","mode":"fast"}`, "fast"},
		{`{"type":"subscribe","tag":"a","mode":"latest"}`, "mode is for workflows"},
		{`{"type":"subscribe","tag":"a","after":"0-0"}`, "after is for workflows"},
		{`{"type":"subscribe","tag":"a","run":"x"}`, "run is for workflows"},
		{`{"type":"unsubscribe","tag":"a","run":"x"}`, "run is for workflows"},
		{`{"type":"subscribe","tag":"a"} {"type":"subscribe","tag":"b"}`, "one message"},
	} {
		if err := c.conn.Write(c.ctx, websocket.MessageText, []byte(tt.text)); err != nil {
			t.Fatal(err)
		}
		f, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		if f.Kind != "error" || !strings.Contains(string(f.Data), tt.why) {
			t.Errorf("%s: %s %s", tt.text, f.Kind, f.Data)
		}
		if f.Kind == "snapshot" { // it was obeyed; take it back
			_ = c.conn.Write(c.ctx, websocket.MessageText, []byte(`{"type":"unsubscribe","tag":"a"}`))
		}
	}
}

// HEAD answers as GET does, without the body: load balancers ask so.
func TestHead(t *testing.T) {
	n := start(t)
	newRun(t, n.store, "w", "run").log("1")
	for path, want := range map[string]int{
		"/livez": 200, "/readyz": 200, "/metrics": 200, "/v1/workflows": 200, "/v1/workflows/w": 200,
		"/v1/workflows/none": 404, "/v1/workflows/w/events": 200, "/v1/workflows?limit=x": 400,
		// A stream has no answer without its body.
		"/v1/workflows/w/stream": 405, "/v1/stream?workflow=w": 405, "/v1/ws": 405,
	} {
		res, err := http.Head(n.url + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("HEAD %s: %s, want %d", path, res.Status, want)
		}
		if allow := res.Header.Get("Allow"); want == 405 && allow != "GET" {
			t.Errorf("HEAD %s: Allow %q", path, allow)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url+"/livez", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if allow := res.Header.Get("Allow"); res.StatusCode != 405 || allow != "GET, HEAD" {
		t.Errorf("POST /livez: %s, Allow %q", res.Status, allow)
	}
}
