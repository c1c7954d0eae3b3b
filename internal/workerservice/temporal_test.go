package workerservice

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/internal/testenv"
)

// What is to be there is made again and again, and a failure is logged once.
func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var log strings.Builder
		var mu sync.Mutex // of what follows
		var away error
		calls := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			keep(ctx, slog.New(slog.NewTextHandler(&log, nil)), "it", time.Minute, func(context.Context) error {
				mu.Lock()
				defer mu.Unlock()
				calls++
				return away
			})
		}()
		for _, step := range []struct {
			err   error
			lines int
		}{{nil, 0}, {errors.New("away"), 1}, {nil, 2}, {errors.New("away"), 3}} {
			mu.Lock()
			away, calls = step.err, 0
			mu.Unlock()
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			mu.Lock()
			if calls < 7 || calls > 13 {
				t.Errorf("%d calls in ten minutes", calls)
			}
			if n := strings.Count(log.String(), "\n"); n != step.lines {
				t.Errorf("%d lines logged, want %d:\n%s", n, step.lines, &log)
			}
			mu.Unlock()
		}
		cancel()
		<-done
	})
}

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		var away error
		h := health{ask: func(ctx context.Context) error {
			asked++
			if away != nil {
				<-ctx.Done() // as a server that does not answer
			}
			return away
		}}
		check := func(want error, questions int) {
			t.Helper()
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // nobody else's answer suffers from one who has left
			begin := time.Now()
			if err := h.check(ctx); !errors.Is(err, want) || asked != questions || time.Since(begin) > askTemporalFor {
				t.Errorf("%v after %d questions and %v, want %v after %d", err, asked, time.Since(begin), want, questions)
			}
		}
		check(nil, 1)
		away = errors.New("away")
		check(nil, 1)
		time.Sleep(knownFor)
		check(away, 2)
		check(away, 2)
		away = nil
		time.Sleep(knownFor)
		check(nil, 3)
	})
}

// relay passes connections on to a server, until it is cut.
type relay struct {
	to string

	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func (r *relay) serve(l net.Listener) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", r.to)
		if err != nil {
			in.Close()
			continue
		}
		r.mu.Lock()
		if r.cut {
			in.Close()
			out.Close()
		} else {
			r.conns = append(r.conns, in, out)
			go func() { io.Copy(out, in); out.Close() }()
			go func() { io.Copy(in, out); in.Close() }()
		}
		r.mu.Unlock()
	}
}

func (r *relay) set(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = cut
	if cut {
		for _, c := range r.conns {
			c.Close()
		}
		r.conns = nil
	}
}

// A Temporal server that goes away is said by /readyz, and that it is back.
func TestReadyzAsksTemporal(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	line := &relay{to: testenv.TemporalAddress(t)}
	go line.serve(l)
	defer line.set(true)

	prefix := testenv.Prefix(t)
	ctx, stop := context.WithCancel(t.Context())
	addr, ended := make(chan string, 1), make(chan error, 1)
	c := Config{
		Addr: "127.0.0.1:0", TaskQueue: "readyz-" + prefix, ReconcileEvery: 10 * time.Second,
		Redis: settings.Redis{URL: testenv.Redis(t).URL(), Prefix: prefix},
	}
	env := settings.Env{"TEMPORAL_ADDRESS": l.Addr().String()}
	go func() { ended <- Serve(ctx, c, env, slog.New(slog.DiscardHandler), func(a string) { addr <- a }) }()
	base := "http://" + <-addr
	await := func(code int, words string) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			got, text := get(t, base+"/readyz")
			if got == code && strings.Contains(text, words) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("/readyz: %d %s, want %d with %q", got, text, code, words)
			}
		}
	}
	await(200, "ready")
	line.set(true)
	await(503, "TEMPORAL_ADDRESS")
	line.set(false)
	await(200, "ready")
	stop()
	if err := <-ended; err != nil {
		t.Errorf("it did not stop in order: %v", err)
	}
}
