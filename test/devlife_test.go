package test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/runcast/runcast/internal/cable"
)

// needProgram fails the test where a program is not installed. Only who has
// set RUNCAST_TEST_SKIP_SERVERS, and never CI, gets a skip instead.
func needProgram(t *testing.T, name string) string {
	t.Helper()
	for _, path := range []string{name, "/usr/sbin/" + name} { // which not everybody has on the PATH
		if path, err := exec.LookPath(path); err == nil {
			return path
		}
	}
	if os.Getenv("RUNCAST_TEST_SKIP_SERVERS") != "" && os.Getenv("CI") != "true" {
		t.Skipf("no %s, and RUNCAST_TEST_SKIP_SERVERS is set", name)
	}
	t.Fatalf("no %s on the PATH: run `make test`, which installs it, or set RUNCAST_TEST_SKIP_SERVERS=1", name)
	return ""
}

// refusal waits for a program that is expected not to start, and returns what
// it says.
func refusal(t *testing.T, p *process) string {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(time.Minute):
		t.Fatalf("it runs:\n%s", p.output(t))
	}
	var exit *exec.ExitError
	if !errors.As(p.err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("it ended with %v, want exit code 1", p.err)
	}
	return p.output(t)
}

func TestDevNamesTheFlagOfATakenPort(t *testing.T) {
	free := (&devServer{addr: "127.0.0.1:0", apiAddr: "127.0.0.1:0", workerAddr: "127.0.0.1:0",
		temporal: "127.0.0.1:0", ui: "127.0.0.1:0", redis: "127.0.0.1:0"}).addrs()
	for flag := range free {
		t.Run(flag, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			var args []string
			for f, addr := range free {
				if f == flag {
					addr = l.Addr().String()
				}
				args = append(args, f+"="+addr)
			}
			said := refusal(t, launch(t, nil, devBinary(t), args...))
			if !strings.Contains(said, flag) || !strings.Contains(said, l.Addr().String()) || strings.Count(said, "\n") > 1 {
				t.Errorf("it says %q; one line should name %s and the address", said, flag)
			}
		})
	}
}

func TestDevRefuses(t *testing.T) {
	twice := freeAddr(t)
	_, port, err := net.SplitHostPort(twice)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		env  []string
		args []string
		says []string
	}{
		{"a port given twice", nil, []string{"--api-addr=" + twice, "--redis-addr=localhost:" + port}, []string{"--api-addr", "--redis-addr", twice}},
		{"no address", nil, []string{"--api-addr=8081"}, []string{"--api-addr", "host:port"}},
		{"an unknown flag", nil, []string{"--redis-adr=127.0.0.1:0"}, []string{"--redis-adr"}},
		{"an unknown variable", []string{"RUNCAST_SUBSCRIBER_ADR=127.0.0.1:0"}, nil, []string{"RUNCAST_SUBSCRIBER_ADR"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{
				"--subscriber-addr=127.0.0.1:0", "--api-addr=127.0.0.1:0", "--worker-addr=127.0.0.1:0",
				"--temporal-addr=127.0.0.1:0", "--temporal-ui-addr=", "--redis-addr=127.0.0.1:0",
			}, tt.args...)
			said := refusal(t, launch(t, tt.env, devBinary(t), args...))
			for _, want := range tt.says {
				if !strings.Contains(said, want) {
					t.Errorf("it says %q, without %q", said, want)
				}
			}
		})
	}
}

// With runs and viewers under way, everything stops in time, and cleanly.
func TestDevStops(t *testing.T) {
	for _, tt := range []struct {
		name  string
		until func(t *testing.T, dev *devServer)
	}{
		{"at work", func(t *testing.T, dev *devServer) {
			dev.awaitReady(t)
			// Browsers connect ahead of need; such a connection holds up nothing.
			for _, addr := range []string{dev.addr, dev.apiAddr, dev.workerAddr} {
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
			}
			if f, ok := nextFrame(t, bufio.NewReader(openStream(t, dev.page+"/v1/workflows/demo-import/stream", "").Body)); !ok {
				t.Fatalf("no frame: %+v", f)
			}
		}},
		{"while it starts", func(t *testing.T, dev *devServer) {
			within(t, time.Minute, "a first server", func(ctx context.Context) error { return dial(ctx, dev.redis) })
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dev := launchDev(t, nil)
			tt.until(t, dev)
			begin := time.Now()
			if err := dev.stop(); err != nil {
				t.Errorf("after %v: %v", time.Since(begin), err)
			}
			// The subscriber's viewer, who reads no more, may be.
			for line := range strings.Lines(dev.output(t)) {
				if strings.Contains(line, "cut off") && !strings.Contains(line, dev.addr) {
					t.Errorf("it waited for what has nothing to say: %s", line)
				}
			}
			for flag, addr := range dev.addrs() {
				if err := dial(t.Context(), addr); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("%s %s: %v, want a refused connection", flag, addr, err)
				}
			}
		})
	}
}

func dial(ctx context.Context, addr string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

// startRedis starts an installed redis-server with further arguments, and
// returns its address.
func startRedis(t *testing.T, args ...string) (addr string) {
	t.Helper()
	binary := needProgram(t, "redis-server")
	addr = freeAddr(t)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	start(t, nil, binary, append(slices.Clone(args), "--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", t.TempDir())...)
	within(t, 10*time.Second, "redis-server", func(ctx context.Context) error { return dial(ctx, addr) })
	return addr
}

// With REDIS_URL and TEMPORAL_ADDRESS set, those servers are used and none
// are started; and it is not ready before they are there.
func TestDevUsesRealServers(t *testing.T) {
	const password = "not-to-be-seen"
	redisAddr := startRedis(t, "--requirepass", password)
	temporalAddr := freeAddr(t)
	start(t, nil, devBinary(t), "temporal", "--temporal-addr", temporalAddr)
	within(t, time.Minute, "the Temporal server", func(ctx context.Context) error { return dial(ctx, temporalAddr) })
	line := cable.New(t, temporalAddr)
	line.Pull()

	dev := launchDev(t, []string{"REDIS_URL=redis://:" + password + "@" + redisAddr, "TEMPORAL_ADDRESS=" + line.Addr}, "--demo=false")
	within(t, time.Minute, "an answer that names what is missing", func(ctx context.Context) error {
		return expectUnready(ctx, dev.page, "worker")
	})
	line.Plug()
	dev.awaitReady(t)
	if err := expectStatus(t.Context(), "http://"+dev.workerAddr+"/readyz", http.StatusOK); err != nil {
		t.Error(err)
	}
	if err := expectStatus(t.Context(), dev.api+"/readyz", http.StatusOK); err != nil {
		t.Error(err)
	}
	runID := dev.run(t, "order-42", map[string]any{"steps": 2, "step_ms": 50})
	restOf(t, bufio.NewReader(openStream(t, dev.page+"/v1/workflows/order-42/stream?run="+runID, "").Body))

	hash, err := redisClient(t, redisAddr, password).HGetAll(t.Context(), "workflow:{order-42}").Result()
	if err != nil || hash["run_id"] != runID || hash["status"] != "completed" {
		t.Errorf("the real Redis has %q: %v", hash, err)
	}
	temporal, err := client.Dial(client.Options{HostPort: temporalAddr})
	if err != nil {
		t.Fatal(err)
	}
	defer temporal.Close()
	if _, err := temporal.DescribeWorkflowExecution(t.Context(), "order-42", runID); err != nil {
		t.Errorf("the real Temporal server: %v", err)
	}
	for _, addr := range []string{dev.redis, dev.temporal, dev.ui} {
		if err := dial(t.Context(), addr); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v; no server should be embedded", addr, err)
		}
	}
	output := dev.output(t)
	for _, want := range []string{"REDIS_URL", redisAddr, "TEMPORAL_ADDRESS", line.Addr} {
		if !strings.Contains(output, want) {
			t.Errorf("%s is not printed:\n%s", want, output)
		}
	}
	if strings.Contains(output, password) {
		t.Errorf("the password is printed:\n%s", output)
	}

	// What goes away later is said, too.
	line.Pull()
	within(t, 20*time.Second, "not ready without Temporal", func(ctx context.Context) error {
		return expectUnready(ctx, dev.page, "api")
	})
	line.Plug()
	within(t, 30*time.Second, "ready again", func(ctx context.Context) error {
		return expectStatus(ctx, dev.page+"/readyz", http.StatusOK)
	})
}

// expectUnready expects /readyz to name what is missing.
func expectUnready(ctx context.Context, page, missing string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page+"/readyz", nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var problem struct{ Detail string }
	if err := json.NewDecoder(res.Body).Decode(&problem); err != nil {
		return fmt.Errorf("%s: %w", res.Status, err)
	}
	if res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(problem.Detail, missing) {
		return fmt.Errorf("%s: %q, want 503 that names %q", res.Status, problem.Detail, missing)
	}
	return nil
}

// A Redis that is not there yet is waited for, in one line that tells where it
// is to be, and nothing is announced before; one that cannot be is said once.
func TestDevWaitsForRedis(t *testing.T) {
	redisAddr := freeAddr(t)
	dev := launchDev(t, []string{"REDIS_URL=redis://:not-to-be-seen@" + redisAddr}, "--demo=false")
	within(t, 30*time.Second, "a line that it waits", func(context.Context) error {
		if said := dev.output(t); !strings.Contains(said, "Waiting for Redis at "+redisAddr) {
			return fmt.Errorf("it says %q", said)
		}
		return nil
	})
	if said := dev.output(t); strings.Contains(said, "ready") || strings.Contains(said, "not-to-be-seen") || strings.Count(said, "\n") > 1 {
		t.Errorf("while it waits it says\n%s", said)
	}
	if err := dev.stop(); err != nil {
		t.Errorf("it does not stop while it waits: %v", err)
	}
}

func TestDevRefusesABadRedisURL(t *testing.T) {
	said := refusal(t, launch(t, []string{"REDIS_URL=127.0.0.1:6379"}, devBinary(t), "--demo=false",
		"--subscriber-addr=127.0.0.1:0", "--api-addr=127.0.0.1:0", "--worker-addr=127.0.0.1:0", "--temporal-addr=127.0.0.1:0", "--temporal-ui-addr="))
	if strings.Count(said, "\n") != 1 || strings.Count(said, "REDIS_URL") != 1 {
		t.Errorf("it says %q; one line should name REDIS_URL once", said)
	}
}

func TestDevRefusesBadDynamicConfig(t *testing.T) {
	for value, tt := range map[string]struct {
		env  []string
		want string
	}{
		"frontend.nobodyKnows=1":    {nil, "frontend.nobodyknows"},
		"frontend.namespaceRPS=few": {nil, "JSON"},
		"frontend.namespaceRPS=1":   {[]string{"TEMPORAL_ADDRESS=127.0.0.1:1"}, "TEMPORAL_ADDRESS"},
	} {
		said := refusal(t, launch(t, tt.env, devBinary(t), "--dynamic-config-value="+value))
		if strings.Count(said, "\n") != 1 || !strings.Contains(said, "--dynamic-config-value") || !strings.Contains(said, tt.want) {
			t.Errorf("%s: it says %q; one line should name --dynamic-config-value and %s", value, said, tt.want)
		}
	}
}

// A Redis that would lose progress is refused, with the reason.
func TestDevRefusesARedisThatEvicts(t *testing.T) {
	redisAddr := startRedis(t, "--requirepass", "secret", "--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru")
	said := refusal(t, launch(t, []string{"REDIS_URL=redis://:secret@" + redisAddr}, devBinary(t), "--demo=false",
		"--subscriber-addr=127.0.0.1:0", "--api-addr=127.0.0.1:0", "--worker-addr=127.0.0.1:0", "--temporal-addr=127.0.0.1:0", "--temporal-ui-addr="))
	for _, want := range []string{"allkeys-lru", "noeviction"} {
		if !strings.Contains(said, want) {
			t.Errorf("it says %q, without %q", said, want)
		}
	}
}
