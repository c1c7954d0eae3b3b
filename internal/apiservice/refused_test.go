package apiservice

import (
	"bufio"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/workflows"
)

// While Temporal refuses, it is asked for nobody's workflow type: who needs one
// is told at once to come back later, and who does not is served. Once it
// answers, so is everybody.
func TestAutoLeavesTemporalAlone(t *testing.T) {
	for name, refusal := range map[string]error{
		"exhausted":   serviceerror.NewResourceExhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_RPS_LIMIT, "namespace rate limit exceeded"),
		"unavailable": serviceerror.NewUnavailable("no history host is there"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serveStrategies(t, workflows.ProgressiveName+": redis", true)
			s.stopWorker() // so that Redis does not know the run
			id, known := s.start(t), "written-"+testenv.Prefix(t)
			written(t, s.store, known)
			s.calls.take()
			s.calls.failWith(refusal)
			later := func(path string) {
				res := s.get(t, path)
				after, err := strconv.Atoi(res.Header.Get("Retry-After"))
				if res.StatusCode != http.StatusServiceUnavailable || err != nil || after < 1 || after > 9 {
					t.Errorf("%s: %s, Retry-After %q", path, res.Status, res.Header.Get("Retry-After"))
				}
			}
			stream := func(name, id string) string { return "/v1/strategies/" + name + "/workflows/" + id + "/stream" }
			begin := time.Now()
			later(stream("auto", id))
			var wg sync.WaitGroup
			for i := range 50 {
				wg.Go(func() {
					later(stream("auto", id))
					later(stream("auto", fmt.Sprint("other-", i)))
				})
			}
			wg.Wait()
			// Nor does redis ask whether there is a workflow; its viewers wait.
			for range 5 {
				reads(t, bufio.NewScanner(s.get(t, stream("redis", id)).Body), `"workflow_id":"`+id)
			}
			reads(t, bufio.NewScanner(s.get(t, stream("auto", known)).Body), "written")
			calls := s.calls.take()
			// One at first, and one each time that it was asked again.
			most := 1 + int(time.Since(begin)/refusedFor)
			if n := calls["DescribeWorkflowExecution"]; n < 1 || n > most || sum(calls) != n {
				t.Errorf("it was asked %v, want up to %d describes", calls, most)
			}

			s.calls.failWith(nil)
			deadline := time.Now().Add(4 * refusedFor)
			for {
				res := s.get(t, stream("auto", id))
				if res.StatusCode == http.StatusOK {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("once it answers: %s", res.Status)
				}
				time.Sleep(50 * time.Millisecond)
			}
			if status, text := s.text(t, stream("auto", "none-"+testenv.Prefix(t))); status != http.StatusNotFound {
				t.Errorf("afterwards an unknown workflow is %d %s", status, text)
			}
			if calls := s.calls.take(); sum(calls) != calls["DescribeWorkflowExecution"] || sum(calls) > 2 {
				t.Errorf("afterwards it was asked %v, want once for each", calls)
			}
		})
	}
}
