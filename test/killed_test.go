package test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"
)

// A worker is killed after Twilio has taken the message and before it has
// been told so: the next worker finds the message, and sends none.
func TestWorkerKilledBetweenSendAndRecord(t *testing.T) {
	n := newTunnel(t)
	e := startEmulator(t, n.url)
	temporal := freeAddr(t)
	start(t, nil, devBinary(t), "temporal", "--temporal-addr", temporal)
	apiAddr, workerAddr := freeAddr(t), freeAddr(t)
	env := append(twilioEnv(e, n), "TEMPORAL_ADDRESS="+temporal, "REDIS_URL=redis://"+startRedis(t),
		"RUNCAST_API_ADDR="+apiAddr, "RUNCAST_WORKER_ADDR="+workerAddr)
	worker := build(t, "./cmd/worker")
	start(t, env, build(t, "./cmd/api"))
	n.to("http://" + apiAddr)
	ready := func(addr string) {
		within(t, time.Minute, addr, func(ctx context.Context) error {
			return expectStatus(ctx, "http://"+addr+"/readyz", http.StatusOK)
		})
	}
	ready(apiAddr)
	first := launch(t, env, worker)
	ready(workerAddr)

	taken := make(chan struct{}, 10)
	e.hold(taken)
	in := e.receives(t, person, twilioNumber, "log 8h on apollo")
	select {
	case <-taken:
	case <-time.After(time.Minute):
		t.Fatal("nothing was sent")
	}
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-first.exited
	e.hold(nil)
	start(t, env, worker)
	ready(workerAddr)
	if out := awaitMessages(t, e, person, 1); len(out) != 1 {
		t.Fatalf("sent %+v", out)
	}
	e.reports(t, e.messages(t, person)[0].SID, "delivered")
	within(t, 90*time.Second, "the run's end", func(ctx context.Context) error {
		return expectCompleted(ctx, "http://"+apiAddr+"/v1/workflows/sms-"+in.SID)
	})
	if out := awaitMessages(t, e, person, 1); len(out) != 1 || len(e.sends()) != 1 {
		t.Errorf("%d sends, %+v", len(e.sends()), out)
	}
}

// expectCompleted returns an error until the API says that a run has
// completed.
func expectCompleted(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var run struct{ Status string }
	if err := json.NewDecoder(res.Body).Decode(&run); err != nil {
		return err
	}
	if run.Status != "completed" {
		return fmt.Errorf("it is %s", run.Status)
	}
	return nil
}
