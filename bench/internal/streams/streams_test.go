package streams

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/runcast/runcast/bench/internal/arm"
)

func TestWhatViewersSee(t *testing.T) {
	const (
		none = "event: snapshot\nid: 0-0\ndata: {}\n\n"
		one  = "event: snapshot\nid: 5-1\ndata: {\"percent\":50}\n\n"
		two  = "event: update\nid: 5-2\ndata: {\"type\":\"progress\",\"percent\":100}\n\n"
		end  = "event: end\nid: 5-3\ndata: {\"type\":\"closed\"}\n\n"
	)
	gap := func(reason string) string {
		return fmt.Sprintf("event: gap\ndata: {\"from\":\"5-1\",\"to\":\"5-2\",\"reason\":%q}\n\n", reason)
	}
	for _, tt := range []struct {
		name, sent string
		seen       [2]bool
		want       arm.Viewer // but Seen
	}{
		{"all", "retry: 1000\n\n" + none + ":\n\n" + one + two + end, [2]bool{true, true}, arm.Viewer{Ends: 1}},
		{"no end", one + two, [2]bool{true, true}, arm.Viewer{Err: errBroken.Error()}},
		{"two ends", two + end + end, [2]bool{false, true}, arm.Viewer{Ends: 2}},
		{"notices", gap("stale") + one + gap("degraded") + one + end, [2]bool{true, false}, arm.Viewer{Ends: 1, Degraded: true, Stale: true}},
		{"a gap", one + gap("slow") + two + end, [2]bool{true, true}, arm.Viewer{Ends: 1, Gaps: 1}},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v1/strategies/poll/workflows/w/stream" {
				http.Error(w, "no such page", http.StatusNotFound)
				return
			}
			fmt.Fprint(w, tt.sent)
		}))
		defer s.Close()
		v := &arm.Viewer{Seen: make([]int64, 2)}
		if err := Follow(s.URL, "poll")(t.Context(), []string{"w"}, []*arm.Viewer{v}, 0); err != nil {
			t.Fatal(err)
		}
		if (v.Seen[0] != 0) != tt.seen[0] || (v.Seen[1] != 0) != tt.seen[1] {
			t.Errorf("%s: seen %v, want %v", tt.name, v.Seen, tt.seen)
		}
		if v.Ends != tt.want.Ends || v.Gaps != tt.want.Gaps || v.Err != tt.want.Err || v.Degraded != tt.want.Degraded || v.Stale != tt.want.Stale {
			t.Errorf("%s: %+v, want %+v", tt.name, v, tt.want)
		}
		if v.From.IsZero() || v.To.Before(v.From) {
			t.Errorf("%s: watched from %v to %v", tt.name, v.From, v.To)
		}
	}
}

func TestWhatEndsAWatch(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	v := new(arm.Viewer)
	if err := Follow(s.URL, "poll")(t.Context(), []string{"w"}, []*arm.Viewer{v}, 0); err != nil || !strings.Contains(v.Err, "404") {
		t.Errorf("%v, %+v", err, v)
	}
	// That the time is over is no error of the stream.
	waiting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer waiting.Close()
	ctx, cancel := context.WithCancel(t.Context())
	v = new(arm.Viewer)
	done := make(chan error, 1)
	go func() { done <- Follow(waiting.URL, "poll")(ctx, []string{"w"}, []*arm.Viewer{v}, 0) }()
	cancel()
	if err := <-done; err != nil || v.Err != "" {
		t.Errorf("%v, %+v", err, v)
	}
}
