package test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/progress"
)

// streamed is a frame as curl would show it.
type streamed struct{ kind, id, data string }

// openStream asks for a stream, as a browser that has seen everything up to
// the position would. It ends with the test, or after a minute.
func openStream(t *testing.T, url, position string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if position != "" {
		req.Header.Set("Last-Event-ID", position)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// nextFrame reads one frame; ok is false at the end of the stream.
func nextFrame(t *testing.T, r *bufio.Reader) (f streamed, ok bool) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return f, false
		}
		if err != nil {
			t.Fatalf("read the stream: %v", err)
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "event":
			f.kind = value
		case "id":
			f.id = value
		case "data":
			f.data = value
		case "":
			if f.kind != "" {
				return f, true
			}
		}
	}
}

func restOf(t *testing.T, r *bufio.Reader) (frames []streamed) {
	t.Helper()
	for {
		f, ok := nextFrame(t, r)
		if !ok {
			return frames
		}
		frames = append(frames, f)
	}
}

// get reads a JSON answer of 200 into value.
func get(t *testing.T, url string, value any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s answered %s", url, res.Status)
	}
	if err := json.NewDecoder(res.Body).Decode(value); err != nil {
		t.Fatalf("%s: %v", url, err)
	}
}

// redisClient connects to the Redis that a program uses.
func redisClient(t *testing.T, addr, password string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, Password: password})
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// The whole way, as the README walks it: a viewer who comes before the run
// sees all of it; what is in Redis reads like a report; a position goes on
// right after itself.
func TestDevShowsARun(t *testing.T) {
	dev := startDev(t)
	url := dev.page + "/v1/workflows/order-42/stream"
	early := openStream(t, url, "")
	if kind := early.Header.Get("Content-Type"); early.StatusCode != http.StatusOK || !strings.HasPrefix(kind, "text/event-stream") {
		t.Fatalf("before the run: %s, %s", early.Status, kind)
	}
	reader := bufio.NewReader(early.Body)
	first, ok := nextFrame(t, reader)
	if !ok || first.kind != "snapshot" {
		t.Fatalf("the stream of a run that is not there yet begins with %+v", first)
	}
	runID := dev.run(t, "order-42", map[string]any{"steps": 10, "step_ms": 300})
	frames := append([]streamed{first}, restOf(t, reader)...)
	checkWholeStream(t, frames, runID)
	if t.Failed() {
		return
	}
	end := frames[len(frames)-1]
	checkHash(t, dev, end.id, runID)
	checkRedisCLI(t, dev)
	checkReadme(t, dev)

	res := openStream(t, url, frames[3].id)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("with the position of the fourth frame: %s", res.Status)
	}
	if again := restOf(t, bufio.NewReader(res.Body)); !slices.Equal(again, frames[4:]) {
		t.Errorf("the fourth frame's position goes on with\n%+v\nwant\n%+v", again, frames[4:])
	}
	if res := openStream(t, url, end.id); res.StatusCode != http.StatusNoContent {
		t.Errorf("at the end's position: %s, want 204", res.Status)
	}
}

// checkWholeStream holds the frames against the promises: a snapshot of
// nothing, every event in order, and one end.
func checkWholeStream(t *testing.T, frames []streamed, runID string) {
	t.Helper()
	if len(frames) < 20 { // each of ten steps begins and ends
		t.Fatalf("only %d frames: %+v", len(frames), frames)
	}
	epoch, steps := int64(0), map[string]bool{}
	for i, f := range frames {
		var e progress.Event // a snapshot has what is looked at here, too
		if err := json.Unmarshal([]byte(f.data), &e); err != nil {
			t.Fatalf("frame %d, %q: %v", i, f.data, err)
		}
		want := "update"
		switch i {
		case 0:
			want = "snapshot"
		case len(frames) - 1:
			want = "end"
			if e.Type != progress.TypeClosed || e.Status != progress.StatusCompleted {
				t.Errorf("the end is %s", f.data)
			}
		}
		if f.kind != want || e.Seq != int64(i) {
			t.Errorf("frame %d is %s with seq %d, want %s with seq %d", i, f.kind, e.Seq, want, i)
		}
		if i == 0 {
			continue
		}
		position, err := progress.ParsePosition(f.id)
		if err != nil || position != e.Position() {
			t.Errorf("frame %d has the id %q (%v), and its event is at %s", i, f.id, err, e.Position())
		}
		if i == 1 {
			epoch = e.Epoch
		}
		if e.Epoch != epoch || e.RunID != runID || e.WorkflowID != "order-42" {
			t.Errorf("frame %d is of another stream: %s", i, f.data)
		}
		if e.Type == progress.TypeStep && e.Status == progress.StatusCompleted {
			steps[e.Step] = true
		}
	}
	if len(steps) != 10 {
		t.Errorf("%d steps were completed, want 10", len(steps))
	}
}

// checkHash reads the state as any program with a Redis client would.
func checkHash(t *testing.T, dev *devServer, end, runID string) {
	t.Helper()
	hash, err := redisClient(t, dev.redis, "").HGetAll(t.Context(), "workflow:{order-42}").Result()
	if err != nil {
		t.Fatal(err)
	}
	position, err := progress.ParsePosition(end)
	if err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]string{
		"v": "1", "workflow_id": "order-42", "run_id": runID, "chain": runID,
		"type": "ProgressiveWorkflow", "status": "completed", "percent": "100",
		"epoch": strconv.FormatInt(position.Epoch, 10), "seq": strconv.FormatInt(position.Seq, 10), "check": position.Check,
	} {
		if hash[field] != want {
			t.Errorf("%s is %q, want %q", field, hash[field], want)
		}
	}
	for _, field := range []string{"started_at", "updated_at", "closed_at"} {
		if at, err := time.Parse(time.RFC3339Nano, hash[field]); err != nil || time.Since(at).Abs() > time.Hour {
			t.Errorf("%s is %q: %v", field, hash[field], err)
		}
	}
	steps := 0
	for field, text := range hash {
		if !strings.HasPrefix(field, "step.") {
			continue
		}
		var step progress.Step
		if err := json.Unmarshal([]byte(text), &step); err != nil || step.Status != progress.StatusCompleted {
			t.Errorf("%s is %s: %v", field, text, err)
		}
		steps++
	}
	if steps != 10 {
		t.Errorf("the hash has %d steps, want 10", steps)
	}
	if t.Failed() {
		t.Logf("the hash: %q", hash)
	}
}

// checkRedisCLI pastes the line that the program prints into a shell.
func checkRedisCLI(t *testing.T, dev *devServer) {
	t.Helper()
	needProgram(t, "redis-cli")
	output := dev.output(t)
	line := regexp.MustCompile(`(?m)^ +(redis-cli .*)$`).FindStringSubmatch(output)
	if line == nil {
		t.Fatalf("no line for redis-cli is printed:\n%s", output)
	}
	text, err := exec.CommandContext(t.Context(), "sh", "-c", line[1]).CombinedOutput()
	if err != nil || !strings.Contains(string(text), "ProgressiveWorkflow") {
		t.Errorf("%s: %v\n%s", line[1], err, text)
	}
	for _, want := range []string{dev.page, dev.api, dev.temporal, "http://" + dev.ui, dev.redis} {
		if !strings.Contains(output, want) {
			t.Errorf("%s is not printed:\n%s", want, output)
		}
	}
	if strings.Contains(output, "WRN") || strings.Contains(output, "ERR") {
		t.Errorf("it complains, and nothing is wrong:\n%s", output)
	}
}

// Keys of the embedded Redis expire as time goes by.
func TestDevRedisExpires(t *testing.T) {
	c := redisClient(t, startDev(t).redis, "")
	ctx := t.Context()
	if err := errors.Join(
		c.Set(ctx, "brief", "x", 300*time.Millisecond).Err(),
		c.HSet(ctx, "hash", "a", "b").Err(), c.PExpire(ctx, "hash", 300*time.Millisecond).Err(),
		c.Set(ctx, "kept", "x", time.Hour).Err(),
	); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "keys that expire", func(ctx context.Context) error {
		n, err := c.Exists(ctx, "brief", "hash").Result()
		if err == nil && n > 0 {
			err = errors.New("they are still there")
		}
		return err
	})
	if n, err := c.Exists(ctx, "kept").Result(); err != nil || n != 1 {
		t.Errorf("a key with an hour to live: %d, %v", n, err)
	}
}

// The demo shows all kinds of runs, and they end; without it there are none.
func TestDevDemo(t *testing.T) {
	t.Run("on", func(t *testing.T) {
		t.Parallel()
		dev := launchDev(t, nil) // it is the default
		dev.awaitReady(t)
		within(t, time.Minute, "the end of a run that fails", func(ctx context.Context) error {
			return expectStatus(ctx, dev.page+"/v1/workflows/demo-failing", http.StatusOK)
		})
		frames := restOf(t, bufio.NewReader(openStream(t, dev.page+"/v1/workflows/demo-failing/stream", "").Body))
		var end progress.Event
		if last := frames[len(frames)-1]; last.kind != "end" || json.Unmarshal([]byte(last.data), &end) != nil || end.Status != progress.StatusFailed {
			t.Errorf("demo-failing ends with %+v", last)
		}
		ids := runsOf(t, dev)
		for _, want := range []string{"demo-import", "demo-answer", "demo-failing", "demo-long-history"} {
			if !slices.Contains(ids, want) {
				t.Errorf("%s is missing in %q", want, ids)
			}
		}
	})
	t.Run("off", func(t *testing.T) {
		t.Parallel()
		dev := startDev(t)
		// By the time that this one is over, others would have begun.
		dev.run(t, "mine", map[string]any{"steps": 1, "step_ms": 50})
		restOf(t, bufio.NewReader(openStream(t, dev.page+"/v1/workflows/mine/stream", "").Body))
		if ids := runsOf(t, dev); !slices.Equal(ids, []string{"mine"}) {
			t.Errorf("there are the runs %q", ids)
		}
	})
}

// runsOf lists the runs, whoever started them.
func runsOf(t *testing.T, dev *devServer) (ids []string) {
	t.Helper()
	var list struct {
		Workflows []progress.Summary `json:"workflows"`
	}
	get(t, dev.page+"/v1/workflows", &list)
	for _, w := range list.Workflows {
		ids = append(ids, w.WorkflowID)
	}
	return ids
}
