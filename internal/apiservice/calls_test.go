package apiservice

import (
	"bufio"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/runcast/runcast/workflows"
)

// callsOf sums what the metrics say that a strategy has called.
func (s *served) callsOf(t *testing.T, name string) (n int) {
	t.Helper()
	_, text := s.text(t, "/metrics")
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "runcast_strategy_temporal_calls_total{") && strings.Contains(line, `strategy="`+name+`"`) {
			k, err := strconv.Atoi(line[strings.LastIndex(line, " ")+1:])
			if err != nil {
				t.Fatal(err)
			}
			n += k
		}
	}
	return n
}

// Each call to Temporal that a strategy makes is counted as its own.
func TestCallsAreCountedByStrategy(t *testing.T) {
	s := serveStrategies(t, workflows.ProgressiveName+": redis", true)
	for _, name := range append([]string{"auto"}, s.names...) {
		t.Run(name, func(t *testing.T) {
			before := s.callsOf(t, name)
			id := s.start(t)
			s.count(t, id, 7)
			s.awaitWritten(t, id)
			s.calls.take()
			res := s.get(t, "/v1/strategies/"+name+"/workflows/"+id+"/stream")
			if res.StatusCode != http.StatusOK {
				t.Fatalf("answered %s", res.Status)
			}
			scan := bufio.NewScanner(res.Body)
			reads(t, scan, `"current":7`)
			s.count(t, id, 0)
			reads(t, scan, `"type":"closed"`)
			made := 0
			// One may be under way.
			deadline := time.Now().Add(10 * time.Second)
			for {
				made += sum(s.calls.take())
				counted := s.callsOf(t, name) - before
				if counted == made {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("%d calls were made, and %d counted", made, counted)
				}
				time.Sleep(5 * time.Millisecond)
			}
			if (made == 0) != (name == "redis" || name == "auto") {
				t.Errorf("it made %d calls", made)
			}
		})
	}
}
