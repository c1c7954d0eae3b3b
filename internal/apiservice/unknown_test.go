package apiservice

import (
	"bufio"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/workflows"
)

// written writes an event of a workflow that Temporal does not know.
func written(t *testing.T, store *redisstore.Store, id string) {
	t.Helper()
	_, err := store.Append(t.Context(), redisstore.Append{
		WorkflowID: id, Fence: redisstore.Fence{RunID: "r", Chain: "r", RunTime: time.Now()},
		Events: []progress.Event{{WorkflowID: id, RunID: "r", Chain: "r", WorkflowType: workflows.ProgressiveName, Type: progress.TypeLog, Time: time.Now(), Message: "written"}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// By redis, too, a workflow that there is none of is 404, after one describe
// for all who ask at once, with a position or without, over a WebSocket as
// well.
func TestRedisRefusesTheUnknown(t *testing.T) {
	s := serveStrategies(t, "", true)
	path := "/v1/strategies/redis/workflows/none-" + testenv.Prefix(t)
	for _, path := range []string{path + "/stream", path + "/stream?after=1-2-01234567", path + "-2/stream"} {
		s.calls.take()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if status, text := s.text(t, path); status != http.StatusNotFound || !strings.Contains(text, `": not found`) {
					t.Errorf("%s: %d %s", path, status, text)
				}
			})
		}
		wg.Wait()
		want := 1
		if strings.Contains(path, "after") {
			want = 0 // it has just been asked for
		}
		if calls := s.calls.take(); sum(calls) != want || calls["DescribeWorkflowExecution"] != want {
			t.Errorf("%s cost %v, want %d describes", path, calls, want)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
	} {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusNotFound {
		t.Errorf("over a WebSocket: %s", res.Status)
	}
}

// What Redis knows is not asked for, though Temporal may know nothing of it.
func TestRedisAsksForNothingItKnows(t *testing.T) {
	s := serveStrategies(t, "", true)
	id := "written-" + testenv.Prefix(t)
	written(t, s.store, id)
	for range 20 {
		reads(t, bufio.NewScanner(s.get(t, "/v1/strategies/redis/workflows/"+id+"/stream").Body), "written")
	}
	if calls := s.calls.take(); sum(calls) != 0 {
		t.Errorf("a workflow in Redis cost %v", calls)
	}
}

// A run that Temporal alone knows is waited for, by all for one describe.
func TestRedisWaitsForTheFirstEvent(t *testing.T) {
	s := serveStrategies(t, "", true)
	s.stopWorker()
	id := s.start(t)
	s.calls.take()
	streams := make([]*bufio.Scanner, 20)
	var wg sync.WaitGroup
	for i := range streams {
		wg.Go(func() {
			res := s.get(t, "/v1/strategies/redis/workflows/"+id+"/stream")
			if res.StatusCode != http.StatusOK {
				t.Errorf("answered %s", res.Status)
			}
			streams[i] = bufio.NewScanner(res.Body)
		})
	}
	wg.Wait()
	for _, scan := range streams {
		reads(t, scan, `"workflow_id":"`+id) // the empty snapshot
	}
	if calls := s.calls.take(); sum(calls) != 1 || calls["DescribeWorkflowExecution"] != 1 {
		t.Errorf("20 who wait cost %v", calls)
	}
	s.work()
	s.count(t, id, 7)
	for _, scan := range streams {
		reads(t, scan, `"type":"started"`)
		reads(t, scan, `"current":7`)
	}
	s.count(t, id, 0)
	for _, scan := range streams {
		reads(t, scan, `"type":"closed"`)
	}
	if calls := s.calls.take(); sum(calls) != 0 {
		t.Errorf("once Redis knew it, it cost %v", calls)
	}
}
