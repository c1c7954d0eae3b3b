package subscriber_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/runcast/runcast/internal/cable"
	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// A Redis that is out of reach for a while, and is written to meanwhile:
// viewers keep their connections, /readyz says so, and then they get all that
// Redis has, without a gap.
func TestRedisOutOfReach(t *testing.T) {
	redis, prefix := testenv.Redis(t), testenv.Prefix(t)
	line := cable.New(t, redis.Addr)
	open := func(addr string) *redisstore.Store {
		store, err := redisstore.Open(t.Context(), "redis://"+addr, redisstore.Options{Prefix: prefix})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		return store
	}
	n := startWith(t, redis, open(line.Addr))
	ready := func() int {
		res, cancel := get(t, n.url+"/readyz")
		defer cancel()
		return res.StatusCode
	}
	viewers := map[string]client{
		"sse":       n.sse(t, "/v1/workflows/w/stream"),
		"ws":        n.ws(t, "/v1/workflows/w/ws"),
		"many, sse": n.sse(t, "/v1/stream?workflow=w"),
		"many, ws":  n.ws(t, "/v1/ws?workflow=w"),
	}
	for _, c := range viewers {
		expect(t, c, "snapshot")
	}
	r := newRun(t, open(redis.Addr), "w", "run")
	positions := []progress.Position{r.log("before")}
	for _, c := range viewers {
		expect(t, c, "update")
	}
	if got := ready(); got != http.StatusOK {
		t.Fatalf("/readyz: %d", got)
	}

	line.Pull()
	eventually(t, "unready", func() bool { return ready() == http.StatusServiceUnavailable })
	// One comes back just now.
	viewers["came meanwhile"] = n.sse(t, "/v1/workflows/w/stream", "Last-Event-ID", positions[0].String())
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := range 30 {
		<-tick.C
		positions = append(positions, r.log(fmt.Sprint("while it is away ", i)))
	}
	if got := ready(); got != http.StatusServiceUnavailable {
		t.Errorf("/readyz, seconds later: %d", got)
	}
	line.Plug()

	eventually(t, "ready", func() bool { return ready() == http.StatusOK })
	positions = append(positions, r.log("after"))
	for name, c := range viewers {
		for _, want := range positions[1:] {
			f, err := c.next()
			if err != nil || f.Kind != "update" {
				t.Fatalf("%s: %s %s %s, %v; want the update %s", name, f.Kind, f.ID, f.Data, err, want)
			}
			if e := f.event(t); e.Position() != want {
				t.Fatalf("%s: the update %s, want %s", name, e.Position(), want)
			}
		}
	}
}
