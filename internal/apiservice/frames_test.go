package apiservice

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/strategy"
	"github.com/runcast/runcast/subscriber"
	"github.com/runcast/runcast/workflows"
)

// beside serves the same store by a subscriber, and returns where.
func (s *served) beside(t *testing.T) string {
	t.Helper()
	server, err := subscriber.New(subscriber.Options{Store: s.store, Config: subscriber.Config{Drain: 10 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(server.Handler())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
		listener.Close()
	})
	return listener.URL
}

// shape is what of a frame is the same for all ways: its kind, the names of
// what it has, and how far the run is. Events of the ways that ask the run
// have no hash of the history, and each names the workflow's type.
func (f frame) shape(t *testing.T, asked bool) string {
	t.Helper()
	var data map[string]any
	if err := json.Unmarshal([]byte(f.data), &data); err != nil {
		t.Fatalf("%+v: %v", f, err)
	}
	if name := "check"; asked && f.kind != "snapshot" {
		name = "workflow_type"
		if data[name] != workflows.ProgressiveName {
			t.Errorf("an event lacks %s: %s", name, f.data)
		}
		delete(data, name)
	} else {
		if check, _ := data[name].(string); asked != (check == "") {
			t.Errorf("the check is wrong in %s", f.data)
		}
		delete(data, name)
	}
	return fmt.Sprint(f.kind, " ", slices.Sorted(maps.Keys(data)), " ", data["current"], " ", data["status"], " ", data["type"])
}

// shapes are those of the frames that tell something new: a run that is asked
// counts a version when it returns, which changes nothing that is seen.
func (v *viewer) shapes(asked bool) (shapes []string) {
	v.t.Helper()
	for i, f := range v.got {
		if last := len(v.got) - 1; asked && i == last-1 && f.has(`"current":3`) && v.got[i-1].has(`"current":3`) {
			continue
		}
		shapes = append(shapes, f.shape(v.t, asked))
	}
	return shapes
}

// stable are the headers that do not differ by the moment or the way.
func (v *viewer) stable() http.Header {
	h := v.header.Clone()
	for _, name := range []string{"Date", "Runcast-Strategy", "Sec-Websocket-Accept"} {
		h.Del(name)
	}
	return h
}

// Whoever follows a run sees the same frames as a subscriber's viewer, on both
// transports, with the same headers.
func TestSameFrames(t *testing.T) {
	s := serveStrategies(t, "", true)
	base := s.beside(t)
	id := s.start(t)
	s.count(t, id, 1)
	routes := map[string]string{"": base + "/v1/workflows/" + id}
	for _, name := range s.names {
		routes[name] = strings.TrimSuffix(s.stream(name, id), "/stream")
	}
	for _, name := range slices.Sorted(maps.Keys(routes)) {
		sse(t, t.Context(), name, routes[name]+"/stream").sees(`"current":1`) // all are as far
	}
	var viewers []*viewer
	for _, transport := range []struct {
		path string
		open func(t *testing.T, ctx context.Context, name, url string) *viewer
	}{{"/stream", sse}, {"/ws", ws}} {
		for _, name := range slices.Sorted(maps.Keys(routes)) {
			viewers = append(viewers, transport.open(t, t.Context(), name, routes[name]+transport.path))
		}
	}
	all := func(text string) {
		t.Helper()
		for _, v := range viewers {
			v.sees(text)
		}
	}
	all(`"current":1`)
	for n := range int64(2) {
		s.count(t, id, n+2)
		all(fmt.Sprintf(`"current":%d`, n+2))
	}
	s.count(t, id, 0)
	for _, v := range viewers {
		v.ends(`"status":"completed"`)
	}
	for i, v := range viewers {
		want := viewers[i/len(routes)*len(routes)] // the subscriber's, on this transport
		if v.header.Get("Runcast-Strategy") != v.name || !maps.EqualFunc(v.stable(), want.stable(), slices.Equal) {
			t.Errorf("%s: headers %v, want %v", v.name, v.header, want.header)
		}
		if v.name == strategy.Redis && !slices.Equal(v.got, want.got) {
			t.Errorf("by redis came\n%+v\nof a subscriber\n%+v", v.got, want.got)
		}
		asked := v.name != "" && v.name != strategy.Redis
		if got, want := v.shapes(asked), want.shapes(false); len(want) != 4 || !slices.Equal(got, want) {
			t.Errorf("by %s came\n%s\nof a subscriber\n%s", v.name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}
