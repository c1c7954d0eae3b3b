package apiservice

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// within is how long a test waits for what must come.
const within = 60 * time.Second

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("there is no %s", what)
		}
	}
}

// frame is one that a viewer gets; the zero value is the end of the stream.
type frame struct{ kind, id, data string }

// has reports whether the frame's data has a text.
func (f frame) has(text string) bool { return strings.Contains(f.data, text) }

// viewer reads one stream to its end.
type viewer struct {
	t      *testing.T
	name   string
	header http.Header
	// read returns the next frame; the zero one is an orderly end.
	read func() frame
	// got are those so far.
	got []frame
}

// until reads frames until one has the text, and returns it.
func (v *viewer) until(kind, text string) frame {
	v.t.Helper()
	for {
		f := v.read()
		if f.kind == "" {
			v.t.Fatalf("%s: the stream is over before %s %q; it had %+v", v.name, kind, text, v.got)
		}
		v.got = append(v.got, f)
		if f.kind == kind && f.has(text) {
			return f
		}
	}
}

// sees reads frames until one has the text, whatever its kind.
func (v *viewer) sees(text string) frame {
	v.t.Helper()
	for {
		f := v.read()
		if f.kind == "" {
			v.t.Fatalf("%s: the stream is over before %q; it had %+v", v.name, text, v.got)
		}
		if v.got = append(v.got, f); f.has(text) {
			return f
		}
	}
}

// ends reads to the end of the stream, which is one frame end.
func (v *viewer) ends(text string) frame {
	v.t.Helper()
	f := v.until("end", text)
	if more := v.read(); more.kind != "" {
		v.t.Errorf("%s: after the end came %+v", v.name, more)
	}
	return f
}

// sse opens a stream of a strategy, by its path below a workflow's route.
func sse(t *testing.T, ctx context.Context, name, url string) *viewer {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s: answered %s", name, res.Status)
	}
	scan := bufio.NewScanner(res.Body)
	return &viewer{t: t, name: name, header: res.Header, read: func() (f frame) {
		for scan.Scan() {
			field, value, _ := strings.Cut(scan.Text(), ": ")
			switch {
			case field == "event":
				f.kind = value
			case field == "id":
				f.id = value
			case field == "data":
				f.data = value
			case field == "" && f.kind != "":
				return f
			}
		}
		return frame{}
	}}
}

// ws is sse over a WebSocket.
func ws(t *testing.T, ctx context.Context, name, url string) *viewer {
	t.Helper()
	conn, res, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &viewer{t: t, name: name, header: res.Header, read: func() frame {
		_, text, err := conn.Read(ctx)
		var closed websocket.CloseError
		if errors.As(err, &closed) && closed.Code == websocket.StatusNormalClosure {
			return frame{}
		}
		var f struct {
			Event, ID string
			Data      json.RawMessage
		}
		if err == nil {
			err = json.Unmarshal(text, &f)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return frame{f.Event, f.ID, string(f.Data)}
	}}
}

// stream is where a strategy serves a workflow.
func (s *served) stream(strategy, id string) string {
	return s.url + "/v1/strategies/" + strategy + "/workflows/" + id + "/stream"
}
