package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/webhook"
)

const deploymentSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"

// runcast runs the command and returns what it prints, and how it ended.
func runcast(t *testing.T, binary string, env []string, args ...string) (out string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append([]string{"HOME=" + t.TempDir()}, env...)
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// arrivals is a program elsewhere that takes what runs push, and verifies it
// with the secret that an operator has given it.
type arrivals struct {
	keys webhook.Keys
	mu   sync.Mutex
	ids  []string
	ends []string // how runs have returned
}

func (a *arrivals) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	id := ""
	if err == nil {
		id, err = a.keys.Verify(r.Header, body)
	}
	var post struct {
		WorkflowID string `json:"workflow_id"`
		Data       struct{ Returned string }
	}
	if err == nil {
		err = json.Unmarshal(body, &post)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ids = append(a.ids, id)
	a.ends = append(a.ends, post.WorkflowID+" "+post.Data.Returned)
}

// start serves at the address until the test ends.
func (a *arrivals) start(t *testing.T, addr string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: a}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l) // it is closed below
	}()
	t.Cleanup(func() { s.Close(); <-done })
}

// With what `make dev` starts, from the outside: runs are followed in each way
// by the command, and what a dead receiver on this machine was to get is listed,
// and sent to it once, when it is back.
func TestDevPushesAndServesStrategies(t *testing.T) {
	env := []string{"RUNCAST_PUSH_SECRETS=" + deploymentSecret}
	dev := launchDev(t, env, "--demo=false")
	binary := build(t, "./cmd/runcast")
	dev.awaitReady(t)
	env = append(env, "RUNCAST_API_URL="+dev.api, "RUNCAST_SUBSCRIBER_URL="+dev.page)

	addr := freeAddr(t)
	hook := "http://" + addr + "/runcast"
	dev.start(t, map[string]any{
		"type": "ProgressiveWorkflow", "id": "pushes", "input": map[string]any{"steps": 1, "step_ms": 50}, "push": []string{hook},
	})
	t.Run("strategies", func(t *testing.T) { watchEach(t, dev, binary, env) })
	t.Run("dashboards", func(t *testing.T) { checkDashboards(t, dev) })
	t.Run("dead letters", func(t *testing.T) {
		var listed string
		within(t, 30*time.Second, "a dead letter", func(context.Context) (err error) {
			listed, err = runcast(t, binary, env, "deadletters", "--json")
			if err == nil && listed == "" {
				err = errors.New("there is none")
			}
			return err
		})
		within(t, 30*time.Second, "the run's end", func(ctx context.Context) error {
			return expectCompleted(ctx, dev.api+"/v1/workflows/pushes")
		})
		replayOnce(t, binary, env, addr, hook)
	})
}

// watchEach follows one run in each way at once, to its end.
func watchEach(t *testing.T, dev *devServer, binary string, env []string) {
	dev.run(t, "followed", map[string]any{"steps": 20, "step_ms": 300})
	watches := make(map[string]*process)
	for _, strategy := range []string{"poll", "adaptive", "update", "signal", "push", "redis"} {
		watches[strategy] = launch(t, env, binary, "watch", "--strategy", strategy, "followed")
	}
	timeout := time.After(time.Minute)
	for strategy, watch := range watches {
		select {
		case <-watch.exited:
		case <-timeout:
			t.Fatalf("%s: it still watches:\n%s", strategy, watch.output(t))
		}
		text := watch.output(t)
		frames := strings.Split(strings.TrimSpace(text), "\n")
		last := frames[len(frames)-1]
		if watch.err != nil || len(frames) < 3 || !strings.Contains(last, `{"event":"end"`) || !strings.Contains(last, `"status":"completed"`) {
			t.Errorf("%s: %v, after\n%s", strategy, watch.err, text)
		}
	}
	// Each has made its own calls, and workers reach the API's callback here.
	// Redis calls nobody.
	metrics := text(t, dev.api+"/metrics")
	for _, want := range []string{
		`runcast_strategy_temporal_calls_total{code="OK",method="QueryWorkflow",strategy="poll"}`,
		`runcast_strategy_temporal_calls_total{code="OK",method="QueryWorkflow",strategy="adaptive"}`,
		`runcast_strategy_temporal_calls_total{code="OK",method="UpdateWorkflowExecution",strategy="update"}`,
		`runcast_callback_taken_total{strategy="signal"}`,
		`runcast_callback_taken_total{strategy="push"}`,
	} {
		if _, n, there := strings.Cut(metrics, "\n"+want+" "); !there || n[0] == '0' {
			t.Errorf("%s does not count", want)
		}
	}
}

// replayOnce has the receiver come back, and what it missed sent to it.
func replayOnce(t *testing.T, binary string, env []string, addr, hook string) {
	listed, err := runcast(t, binary, env, "deadletters")
	if err != nil || strings.Count(listed, "\n") != 1 || !strings.Contains(listed, hook) || !strings.Contains(listed, "refused") || !strings.Contains(listed, "pushes") {
		t.Fatalf("listed: %v\n%s", err, listed)
	}
	id, _, _ := strings.Cut(listed, " ")
	if said, err := runcast(t, binary, env, "deadletters", "replay", "--all"); exitCode(err) != 1 || !strings.Contains(said, "1 of 1 were not taken") {
		t.Errorf("while it is dead: %v\n%s", err, said)
	}
	secret, err := runcast(t, binary, env, "push-secret", hook)
	if err != nil {
		t.Fatalf("%v\n%s", err, secret)
	}
	a := &arrivals{}
	if a.keys, err = webhook.ParseKeys(secret); err != nil {
		t.Fatal(err)
	}
	a.start(t, addr)
	if said, err := runcast(t, binary, env, "deadletters", "replay", "--all"); err != nil || said != id+" was taken\n" {
		t.Errorf("once it is back: %v\n%s", err, said)
	}
	for _, args := range [][]string{{"deadletters"}, {"deadletters", "replay", "--all"}} {
		if said, err := runcast(t, binary, env, args...); err != nil || strings.Contains(said, id) {
			t.Errorf("%q afterwards: %v\n%s", args, err, said)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if fmt.Sprint(a.ids) != "["+id+"]" || fmt.Sprint(a.ends) != "[pushes completed]" {
		t.Errorf("there arrived %q, telling %q; want %q once", a.ids, a.ends, id)
	}
}
