package viewers

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func event(seq int) string {
	return fmt.Sprintf("event: update\ndata: {\"epoch\":1,\"seq\":%d,\"time\":\"%s\"}\n\n", seq, time.Now().UTC().Format(time.RFC3339Nano))
}

// serve starts a server that gives each viewer's stream what script says: the
// numbers of events, 0 to close, and else what is written there.
func serve(t *testing.T, start <-chan struct{}, script ...any) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.Flush()
		select {
		case <-start:
		case <-r.Context().Done():
			return
		}
		for _, one := range script {
			switch one := one.(type) {
			case int:
				if one == 0 {
					return
				}
				fmt.Fprint(w, event(one))
			case string:
				fmt.Fprint(w, one)
			}
			_ = rc.Flush()
		}
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func TestCounts(t *testing.T) {
	for _, tt := range []struct {
		name    string
		script  []any
		settled int64
		want    Counts
	}{
		{"all", []any{8, 9, 10}, 3, Counts{Delivered: 3}},
		{"one is lost", []any{8, 10, 11}, 4, Counts{Delivered: 3, Lost: 1}},
		{"the first are lost", []any{10}, 3, Counts{Delivered: 1, Lost: 2}},
		{"one comes twice", []any{8, 9, 9, 8, 10}, 3, Counts{Delivered: 3, Duplicates: 2}},
		{"a gap", []any{8, "event: gap\ndata: {}\n\n", "event: snapshot\nid: 1-10-00000000\ndata: {}\n\n", 11}, 4, Counts{Delivered: 2, Lost: 2, Gaps: 1}},
		{"closed", []any{8, 0}, 1, Counts{Delivered: 1, Closed: 1}},
		{"comments do not count", []any{":\n\n", 8, ":\n\n", "retry: 100\n\n"}, 1, Counts{Delivered: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const n = 5
			start := make(chan struct{})
			v, err := New(Config{Server: serve(t, start, tt.script...), Viewers: n, Workflows: []string{"a", "b/c"}})
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			if err := v.Open(n, 10*time.Second); err != nil {
				t.Fatal(err)
			}
			v.Begin([]int64{7, 7})
			close(start)
			if err := v.WaitSettled(n*tt.settled, 10*time.Second); err != nil {
				t.Fatal(err)
			}
			var got Counts
			for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(time.Millisecond) {
				got = v.Counts()
				if got.Closed == n*tt.want.Closed && got.Duplicates == n*tt.want.Duplicates {
					break
				}
			}
			if got.Latency.Count != n*tt.want.Delivered || got.Bytes == 0 {
				t.Errorf("%d latencies, %d bytes", got.Latency.Count, got.Bytes)
			}
			want := Counts{
				Delivered: n * tt.want.Delivered, Lost: n * tt.want.Lost, Duplicates: n * tt.want.Duplicates,
				Gaps: n * tt.want.Gaps, Closed: n * tt.want.Closed, Bytes: got.Bytes, Latency: got.Latency,
			}
			if got != want {
				t.Errorf("got %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestResumeFromManyPositions(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			req, err := http.ReadRequest(bufio.NewReader(c))
			if err != nil {
				c.Close()
				continue
			}
			var seq int
			_, _ = fmt.Sscanf(req.URL.Query().Get("after"), "1-%d-", &seq)
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\n\r\n")
			for seq++; seq <= 10; seq++ {
				fmt.Fprint(c, event(seq))
			}
		}
	}()
	v, err := New(Config{
		Server: l.Addr().String(), Viewers: 4, Workflows: []string{"w"}, FirstFrame: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	// Cut off, they come back, and what they get then is counted by itself.
	for _, from := range [][]Place{{{8, "1-8-x"}, {5, "1-5-x"}}, {{9, "1-9-x"}, {4, "1-4-x"}}} {
		v.Cut()
		if err := v.Resume(4, from, 10, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		want := 2 * (20 - from[0].Seq - from[1].Seq)
		if c := v.Counts(); c.Delivered != want || c.Lost+c.Duplicates+c.Closed != 0 || v.Ready().Count != 4 || v.First().Count != 4 || v.First().Max > v.Ready().Max {
			t.Errorf("want %d: %+v", want, c)
		}
	}
}

func TestLatest(t *testing.T) {
	start := make(chan struct{})
	v, err := New(Config{
		Server: serve(t, start, 8, 10, "event: snapshot\nid: 1-14-x\ndata: {}\n\n", 15), Viewers: 3, Workflows: []string{"w"}, Latest: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if err := v.Open(3, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	v.Begin([]int64{7})
	close(start)
	if err := v.WaitSettled(3*8, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if c := v.Counts(); c.Delivered != 3*4 || c.Skipped != 3*4 || c.Lost+c.Duplicates != 0 {
		t.Errorf("%+v", c)
	}
}

func TestRefusal(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	v, err := New(Config{Server: strings.TrimPrefix(s.URL, "http://"), Viewers: 2, Workflows: []string{"w"}})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if err := v.Open(2, 10*time.Second); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a refusal is no error: %v", err)
	}
}
