package test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// programs are the API and the worker as processes of their own, on real
// servers, with the emulator as Twilio.
type programs struct {
	temporal, redis string // addresses
	apiAddr, worker string // addresses
	env             []string
	apiBinary       string
	workerBinary    string
	emulator        *emulator
	tunnel          *tunnel
}

// newPrograms starts the servers, and builds the programs with further
// settings.
func newPrograms(t *testing.T, env ...string) *programs {
	t.Helper()
	p := &programs{temporal: freeAddr(t), redis: startRedis(t), apiAddr: freeAddr(t), worker: freeAddr(t), tunnel: newTunnel(t)}
	p.emulator = startEmulator(t, p.tunnel.url)
	start(t, nil, devBinary(t), "temporal", "--temporal-addr", p.temporal)
	p.env = append(twilioEnv(p.emulator, p.tunnel), "TEMPORAL_ADDRESS="+p.temporal, "REDIS_URL=redis://"+p.redis,
		"RUNCAST_API_ADDR="+p.apiAddr, "RUNCAST_WORKER_ADDR="+p.worker)
	p.env = append(p.env, env...)
	p.apiBinary, p.workerBinary = build(t, "./cmd/api"), build(t, "./cmd/worker")
	p.tunnel.to("http://" + p.apiAddr)
	return p
}

// startAPI starts the API and waits until it is ready; further settings take
// the place of those before. It may be killed.
func (p *programs) startAPI(t *testing.T, env ...string) *process {
	t.Helper()
	return p.started(t, p.apiBinary, p.apiAddr, env)
}

// startWorker starts the worker and waits until it is ready. It may be killed.
func (p *programs) startWorker(t *testing.T, env ...string) *process {
	t.Helper()
	return p.started(t, p.workerBinary, p.worker, env)
}

func (p *programs) started(t *testing.T, binary, addr string, env []string) *process {
	t.Helper()
	program := launch(t, append(append([]string(nil), p.env...), env...), binary)
	t.Cleanup(func() {
		if t.Failed() {
			text := program.output(t)
			t.Logf("%s wrote:\n%s", binary, text[max(0, len(text)-4000):])
		}
	})
	within(t, time.Minute, binary, func(ctx context.Context) error {
		select {
		case <-program.exited:
			t.Fatalf("%s has ended: %v\n%s", binary, program.err, program.output(t))
		default:
		}
		return expectStatus(ctx, "http://"+addr+"/readyz", http.StatusOK)
	})
	return program
}

// kill ends a program as a crash does.
func (p *process) kill(t *testing.T) {
	t.Helper()
	p.told = true
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.exited
}

// text returns what there is at a URL, whatever it is.
func text(t *testing.T, url string) string {
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
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s, %v", url, res.Status, body, err)
	}
	return string(body)
}

// awaitStatus waits until the hash of a workflow says so.
func (p *programs) awaitStatus(t *testing.T, id, status string) {
	t.Helper()
	c := redisClient(t, p.redis, "")
	within(t, 90*time.Second, id+" to be "+status, func(ctx context.Context) error {
		got, err := c.HGet(ctx, "workflow:{"+id+"}", "status").Result()
		if err == nil && got != status {
			err = fmt.Errorf("it is %q", got)
		}
		return err
	})
}
