package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// devServer is a running cmd/dev: everything in one process.
type devServer struct {
	*process
	page, api string // URLs
	// Where everything was told to listen: host and port.
	addr, apiAddr, workerAddr, temporal, ui, redis string
}

// startDev runs cmd/dev on free ports until the test ends, and returns when
// all of it is ready.
func startDev(t *testing.T) *devServer {
	t.Helper()
	d := launchDev(t, nil, "--demo=false")
	d.awaitReady(t)
	return d
}

// launchDev runs cmd/dev on free ports until the test ends, with further
// environment variables and flags. It does not wait until it is ready.
func launchDev(t *testing.T, env []string, flags ...string) *devServer {
	t.Helper()
	d := &devServer{
		addr: freeAddr(t), apiAddr: freeAddr(t), workerAddr: freeAddr(t),
		temporal: freeAddr(t), ui: freeAddr(t), redis: freeAddr(t),
	}
	d.page, d.api = "http://"+d.addr, "http://"+d.apiAddr
	var args []string
	for flag, addr := range d.addrs() {
		args = append(args, flag+"="+addr)
	}
	d.process = start(t, env, devBinary(t), append(args, flags...)...)
	return d
}

// addrs are the addresses by the flag that sets them.
func (d *devServer) addrs() map[string]string {
	return map[string]string{
		"--subscriber-addr": d.addr, "--api-addr": d.apiAddr, "--worker-addr": d.workerAddr,
		"--temporal-addr": d.temporal, "--temporal-ui-addr": d.ui, "--redis-addr": d.redis,
	}
}

func (d *devServer) awaitReady(t *testing.T) {
	t.Helper()
	within(t, time.Minute, "dev", func(ctx context.Context) error {
		select {
		case <-d.exited:
			t.Fatalf("dev ended by itself: %v", d.err)
		default:
		}
		return expectStatus(ctx, d.page+"/readyz", http.StatusOK)
	})
}

// devBinary returns the binary that RUNCAST_TEST_DEV_BIN names, or else builds
// cmd/dev, which takes minutes the first time, into the user's cache; test
// binaries take turns.
func devBinary(t *testing.T) string {
	t.Helper()
	if binary := os.Getenv("RUNCAST_TEST_DEV_BIN"); binary != "" {
		return binary
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "runcast-test")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "dev")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	cmd.Dir = filepath.Join(repository, "cmd", "dev")
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build cmd/dev: %v\n%s", err, text)
	}
	return binary
}

// run starts a workflow over the API and returns its run ID.
func (d *devServer) run(t *testing.T, id string, input map[string]any, tags ...string) string {
	t.Helper()
	return d.start(t, map[string]any{"type": "ProgressiveWorkflow", "id": id, "input": input, "tags": tags})
}

// start posts what names a run, and returns its run ID.
func (d *devServer) start(t *testing.T, request map[string]any) string {
	t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.api+"/v1/workflows", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		RunID string `json:"run_id"`
	}
	if err := json.Unmarshal(text, &answer); err != nil || res.StatusCode != http.StatusAccepted || answer.RunID == "" {
		t.Fatalf("start %s: %s: %s", body, res.Status, text)
	}
	return answer.RunID
}

func stepText(step, steps int) string {
	return fmt.Sprintf("Step %d of %d is under way, and its text comes piece by piece. ", step, steps)
}
