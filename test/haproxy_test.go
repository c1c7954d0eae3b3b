package test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// The sample configuration carries streams through a real HAProxy: at once,
// for both transports, and without a loss while the nodes behind it are
// stopped and killed in turn.
func TestHAProxy(t *testing.T) {
	redis := "redis://" + startRedis(t)
	front, nodes := freeAddr(t), []string{freeAddr(t), freeAddr(t)}
	binary := build(t, "./cmd/subscriber")
	running := make([]*process, len(nodes))
	startNode := func(i int) {
		running[i] = launch(t, []string{"REDIS_URL=" + redis, "RUNCAST_SUBSCRIBER_ADDR=" + nodes[i], "RUNCAST_DRAIN=100ms"}, binary)
		within(t, time.Minute, "a node", func(ctx context.Context) error { return isReady(ctx, nodes[i]) })
	}
	for i := range nodes {
		startNode(i)
	}
	// A signal ends it, which start would take for a failure.
	launch(t, nil, needProgram(t, "haproxy"), "-db", "-f", haproxyConfig(t, front, nodes))
	within(t, time.Minute, "HAProxy", func(ctx context.Context) error { return isReady(ctx, front) })

	store, err := redisstore.Open(t.Context(), redis, redisstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	w := &logWriter{store: store, fence: redisstore.Fence{RunID: "run", Chain: "run", RunTime: time.Now()}}
	if err := w.write(t.Context(), 1); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	var following sync.WaitGroup
	t.Cleanup(following.Wait)
	t.Cleanup(cancel)
	followers := make([]*follower, 8)
	for i := range followers {
		followers[i] = &follower{base: "http://" + front, ws: i%2 == 1}
		following.Go(func() { followers[i].run(ctx) })
	}
	// Nothing follows what was written last, so none of it waits for more.
	seen := func(what string) {
		t.Helper()
		within(t, 20*time.Second, what, func(context.Context) error {
			for i, f := range followers {
				if err := f.failure.Load(); err != nil {
					t.Fatalf("viewer %d: %v", i, *err)
				}
				if at := f.at.Load(); at != w.seq.Load() {
					return fmt.Errorf("viewer %d stands at %d of %d", i, at, w.seq.Load())
				}
			}
			return nil
		})
	}
	seen("the first event")
	for range 3 {
		if err := w.write(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		seen("one event")
	}

	resumes := 0
	for round := range 4 {
		i := round % len(nodes)
		resumes += counted(t, nodes[i], "runcast_subscriber_resumes_total")
		busy, stop := context.WithCancel(t.Context())
		written := make(chan error, 1)
		go func() { written <- w.write(busy, 1e6) }()
		if round < 2 {
			if err := running[i].stop(); err != nil {
				t.Errorf("a node did not stop cleanly: %v", err)
			}
		} else {
			_ = running[i].cmd.Process.Kill() // it runs, as it was never told to stop
			<-running[i].exited
		}
		startNode(i)
		before := w.seq.Load()
		within(t, 20*time.Second, "more events", func(context.Context) error { return atLeast(int(w.seq.Load()-before), 50) })
		stop()
		if err := <-written; err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		seen("what was written while a node went away")
	}
	refused := int64(0)
	for _, f := range followers {
		refused += f.refused.Load()
	}
	for _, node := range nodes {
		resumes += counted(t, node, "runcast_subscriber_resumes_total")
		if gaps := counted(t, node, "runcast_subscriber_gaps_total"); gaps != 0 {
			t.Errorf("%d gaps", gaps)
		}
	}
	t.Logf("%d events, %d resumes, %d refused", w.seq.Load(), resumes, refused)
	if resumes < 4 {
		t.Errorf("%d resumes", resumes)
	}
}

// haproxyConfig writes the sample with addresses of the test's own.
func haproxyConfig(t *testing.T, front string, nodes []string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "deployments", "haproxy.cfg"))
	if err != nil {
		t.Fatal(err)
	}
	config := string(text)
	for old, addr := range map[string]string{
		"bind 127.0.0.1:8000": "bind " + front,
		"a 127.0.0.1:8080":    "a " + nodes[0],
		"b 127.0.0.1:8090":    "b " + nodes[1],
	} {
		if strings.Count(config, old) != 1 {
			t.Fatalf("the sample does not say %q once", old)
		}
		config = strings.Replace(config, old, addr, 1)
	}
	path := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func isReady(ctx context.Context, addr string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	return nil
}

// counted returns the sum of a node's metric over its labels.
func counted(t *testing.T, addr, name string) (sum int) {
	t.Helper()
	res, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	metric := regexp.MustCompile(`^` + name + `(?:{.*})? (\d+)$`)
	lines := bufio.NewScanner(res.Body)
	found := false
	for lines.Scan() {
		if m := metric.FindStringSubmatch(lines.Text()); m != nil {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				t.Fatal(err)
			}
			sum, found = sum+n, true
		}
	}
	if !found {
		t.Fatalf("%s has no %s", addr, name)
	}
	return sum
}

// logWriter writes numbered events of one workflow.
type logWriter struct {
	store *redisstore.Store
	fence redisstore.Fence
	seq   atomic.Int64
}

// write writes up to n events, one at a time, until ctx ends.
func (w *logWriter) write(ctx context.Context, n int) error {
	for range n {
		seq := w.seq.Load() + 1
		// An append that is cut off may have been written: it is not cut off.
		_, err := w.store.Append(context.WithoutCancel(ctx), redisstore.Append{
			WorkflowID: "w", Fence: w.fence, Producer: redisstore.Producer{Name: "test"}, Number: seq,
			Events: []progress.Event{{
				WorkflowID: "w", RunID: w.fence.RunID, Chain: w.fence.Chain, Type: progress.TypeLog, Time: time.Now(),
			}},
		})
		if err != nil {
			return err
		}
		w.seq.Store(seq)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil
}

// follower is a viewer that comes back, and holds each stream to its promise.
type follower struct {
	base    string
	ws      bool
	last    string       // position
	at      atomic.Int64 // its seq
	refused atomic.Int64
	failure atomic.Pointer[error]
}

func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil {
		var err error
		if f.ws {
			err = f.socket(ctx)
		} else {
			err = f.stream(ctx)
		}
		if err != nil && ctx.Err() == nil {
			f.failure.Store(&err)
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// stream follows one SSE connection to its end, which is no error.
func (f *follower) stream(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.base+"/v1/workflows/w/stream", nil)
	if err != nil {
		return err
	}
	if f.last != "" {
		req.Header.Set("Last-Event-ID", f.last)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		f.refused.Add(1)
		return nil
	}
	var kind string
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		switch name, value, _ := strings.Cut(lines.Text(), ": "); name {
		case "event":
			kind = value
		case "id":
			if err := f.took(kind, value); err != nil {
				return err
			}
		case "data":
			if kind == "gap" {
				return fmt.Errorf("gap %s", value)
			}
		}
	}
	return nil
}

func (f *follower) socket(ctx context.Context) error {
	conn, res, err := websocket.Dial(ctx, f.base+"/v1/workflows/w/ws?after="+f.last, nil)
	if err != nil {
		if res != nil {
			f.refused.Add(1)
		}
		return nil
	}
	defer func() { _ = conn.CloseNow() }()
	for {
		_, text, err := conn.Read(ctx)
		if err != nil {
			return nil
		}
		var m struct{ Event, ID string }
		if err := json.Unmarshal(text, &m); err != nil {
			return err
		}
		if err := f.took(m.Event, m.ID); err != nil {
			return err
		}
	}
}

// took moves the viewer: to a snapshot at first, then to each next event.
func (f *follower) took(kind, position string) error {
	pos, err := progress.ParsePosition(position)
	if err != nil {
		return err
	}
	switch at := f.at.Load(); {
	case kind == "snapshot" && f.last == "":
	case kind == "update" && f.last != "" && pos.Seq == at+1:
	default:
		return fmt.Errorf("%s %d follows %d", kind, pos.Seq, at)
	}
	f.last = position
	f.at.Store(pos.Seq)
	return nil
}
