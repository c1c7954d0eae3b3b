package testenv

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
)

// temporalReadyFor bounds how long a Temporal server may take to start. It
// does not include building it.
const temporalReadyFor = 60 * time.Second

// Temporal returns a client of a real Temporal server, namespace "default":
// the one at TEMPORAL_ADDRESS, or else one of the test binary's own, which is
// started with the first call. Tests share it, so each uses task queues and
// workflow IDs of its own. The client is closed with the test.
func Temporal(t testing.TB) client.Client {
	t.Helper()
	return TemporalWith(t, client.Options{})
}

// TemporalWith is like Temporal, with options for the client but for where the
// server is.
func TemporalWith(t testing.TB, o client.Options) client.Client {
	t.Helper()
	return TemporalAt(t, TemporalAddress(t), o)
}

// TemporalAt is like TemporalWith, of another server, such as a
// [TemporalServer].
func TemporalAt(t testing.TB, addr string, o client.Options) client.Client {
	t.Helper()
	o.HostPort = addr
	if o.Logger == nil {
		o.Logger = sdklog.NewStructuredLogger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	}
	c, err := client.Dial(o)
	if err != nil {
		t.Fatalf("connect to Temporal at %s: %v", o.HostPort, err)
	}
	t.Cleanup(c.Close)
	return c
}

// TemporalAddress returns the address of the server that Temporal uses.
func TemporalAddress(t testing.TB) string {
	t.Helper()
	if addr := os.Getenv("TEMPORAL_ADDRESS"); addr != "" {
		return addr
	}
	addr, err := startTemporal()
	if err != nil {
		t.Fatalf("start a Temporal server: %v", err)
	}
	return addr
}

// TemporalServer starts a Temporal server of the test's own, with further
// flags of the embedded one, and returns its address. It ends with the test.
func TemporalServer(t testing.TB, flags ...string) (addr string) {
	t.Helper()
	addr, input, server, err := spawnTemporal(flags...)
	if err != nil {
		t.Fatalf("start a Temporal server: %v", err)
	}
	t.Cleanup(func() {
		// All that it has is in memory, so there is nothing to wait for.
		_ = server.Process.Kill()
		_ = server.Wait()
		input.Close()
	})
	return addr
}

var startTemporal = sync.OnceValues(func() (addr string, err error) {
	addr, temporalInput, _, err = spawnTemporal()
	return addr, err
})

// spawnTemporal starts the embedded server as a process. It stops when its
// standard input ends, however this process does: the write end, which input
// is, has to be kept, since a finalizer would close it.
func spawnTemporal(flags ...string) (addr string, input *os.File, server *exec.Cmd, err error) {
	bin, err := buildTemporal()
	if err != nil {
		return "", nil, nil, err
	}
	out, outWriter, err := os.Pipe()
	if err != nil {
		return "", nil, nil, err
	}
	defer out.Close()
	in, input, err := os.Pipe()
	if err != nil {
		outWriter.Close()
		return "", nil, nil, err
	}
	logs, err := os.CreateTemp("", "runcast-temporal-*.log")
	if err != nil {
		return "", nil, nil, errors.Join(err, outWriter.Close(), in.Close(), input.Close())
	}
	defer logs.Close()
	defer os.Remove(logs.Name())
	server = exec.Command(bin, append([]string{"--temporal-addr", "127.0.0.1:0", "--until-stdin-ends"}, flags...)...)
	server.Stdin, server.Stdout, server.Stderr = in, outWriter, logs
	// A signal to the tests' process group is not for the server: the tests
	// may still need it.
	server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = server.Start()
	in.Close()
	outWriter.Close()
	if err != nil {
		input.Close()
		return "", nil, nil, err
	}
	err = out.SetReadDeadline(time.Now().Add(temporalReadyFor))
	line := ""
	if err == nil {
		line, err = bufio.NewReader(out).ReadString('\n')
	}
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "temporal ready at ")
	if err != nil || !ok {
		_ = server.Process.Kill()
		_ = server.Wait()
		input.Close()
		text, _ := os.ReadFile(logs.Name())
		return "", nil, nil, fmt.Errorf("the server did not become ready: %w: it said %q and logged\n%s", err, line, text)
	}
	return addr, input, server, nil
}

// temporalInput is never read: it keeps the pipe open.
//
//lint:ignore U1000 for the reason above
var temporalInput *os.File

// buildTemporal builds the embedded Temporal server, which lives in cmd/dev's
// module, and with it nothing of this one. The first time takes minutes, so test binaries take turns and share the result.
func buildTemporal() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("the source directory is not known")
	}
	root := filepath.Dir(filepath.Dir(filepath.Dir(file)))
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "runcast-test")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	bin := filepath.Join(dir, "temporald")
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-o", bin, "./temporald")
	cmd.Dir = filepath.Join(root, "cmd", "dev")
	// Its own module, as it is: neither the workspace nor the flags with
	// which the tests are built.
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build cmd/dev: %w\n%s", err, text)
	}
	return bin, nil
}
