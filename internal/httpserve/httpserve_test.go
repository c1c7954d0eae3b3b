package httpserve_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/runcast/runcast/internal/httpserve"
)

// serve runs a server until stop is called, which returns how it ended.
func serve(t *testing.T, o httpserve.Options) (addr string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l, err := httpserve.Listen(ctx, "--addr", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	ended := make(chan error, 1)
	go func() { ended <- httpserve.Serve(ctx, l, o) }()
	t.Cleanup(cancel)
	return l.Addr().String(), func() error {
		cancel()
		return <-ended
	}
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Browsers connect ahead of a request that may never come. That holds up no
// stop, and is no error.
func TestStopWithAConnectionThatSaidNothing(t *testing.T) {
	for _, tt := range []struct{ name, sends string }{
		{"nothing", ""},
		{"half a request", "GET / HTTP/1.1\r\nHost: x\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const grace = 4 * time.Second
			addr, stop := serve(t, httpserve.Options{Handler: http.NotFoundHandler(), Grace: grace})
			quiet := dial(t, addr)
			if _, err := io.WriteString(quiet, tt.sends); err != nil {
				t.Fatal(err)
			}
			// An answer on another connection: the server knows the first one.
			res, err := http.Get("http://" + addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			begin := time.Now()
			if err := stop(); err != nil {
				t.Errorf("it did not stop in order: %v", err)
			}
			if took := time.Since(begin); took > grace/2 {
				t.Errorf("it took %v", took)
			}
			_ = quiet.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := quiet.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the connection is still there: %v", err)
			}
		})
	}
}

// An answer under way is waited for.
func TestStopWaitsForAnswers(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	addr, stop := serve(t, httpserve.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(asked)
		<-answer
		_, _ = io.WriteString(w, "done")
	})})
	got := make(chan string, 1)
	go func() {
		res, err := http.Get("http://" + addr)
		if err != nil {
			got <- err.Error()
			return
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		got <- string(text)
	}()
	<-asked
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	select {
	case err := <-ended:
		t.Fatalf("it ended with an answer under way: %v", err)
	case <-time.After(time.Second): // longer than what has said nothing is given
	}
	close(answer)
	if text := <-got; text != "done" {
		t.Errorf("the answer is %q", text)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Who is still connected at the end of the grace is cut off. That is said,
// and is no failure of the program.
func TestStopCutsOffAtTheEndOfTheGrace(t *testing.T) {
	var log bytes.Buffer
	asked := make(chan struct{})
	addr, stop := serve(t, httpserve.Options{
		Grace: 100 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(asked)
			<-r.Context().Done()
		}),
	})
	conn := dial(t, addr)
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-asked
	if err := stop(); err != nil {
		t.Errorf("it did not stop in order: %v", err)
	}
	if !strings.Contains(log.String(), "cut off") {
		t.Errorf("the log does not say it: %q", &log)
	}
}

// What ended the drain is returned.
func TestStopReturnsTheDrainsError(t *testing.T) {
	why := errors.New("no way out")
	_, stop := serve(t, httpserve.Options{Handler: http.NotFoundHandler(), Drain: func(context.Context) error { return why }})
	if err := stop(); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

func TestListenNamesTheFlag(t *testing.T) {
	addr, _ := serve(t, httpserve.Options{Handler: http.NotFoundHandler()})
	if _, err := httpserve.Listen(t.Context(), "--addr", addr); err == nil || !strings.Contains(err.Error(), "--addr") {
		t.Errorf("got %v", err)
	}
}
