package apiservice

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/strategy"
)

// subscribers is how many connections of Redis are subscribed to a workflow.
func (s *served) subscribers(t *testing.T, id string) int64 {
	t.Helper()
	channel := s.prefix + ":workflow:{" + redisstore.EncodeID(id) + "}:updates"
	n, err := s.store.Client().PubSubNumSub(t.Context(), channel).Result()
	if err != nil {
		t.Fatal(err)
	}
	return n[channel]
}

// signals counts those of a name in the workflow's history.
func (s *served) signals(t *testing.T, id, name string) (n int) {
	t.Helper()
	history := s.client.GetWorkflowHistory(t.Context(), id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		e, err := history.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e.GetWorkflowExecutionSignaledEventAttributes().GetSignalName() == name {
			n++
		}
	}
	return n
}

// Once all viewers have gone, nothing is left of them: no upstream, no
// subscription of the run or of Redis, and no call to Temporal, although the
// run goes on.
func TestViewersLeave(t *testing.T) {
	other := serveStrategies(t, "", true)
	s := other.serve(t, Config{Linger: 100 * time.Millisecond})
	id := s.start(t)
	s.count(t, id, 7)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	for _, name := range s.names {
		for range 10 {
			sse(t, ctx, name, s.stream(name, id)).sees(`"current":7`)
		}
	}
	has := func(lines ...string) bool {
		_, text := s.text(t, "/metrics")
		for _, line := range lines {
			if !strings.Contains(text, "\n"+line+"\n") {
				return false
			}
		}
		return true
	}
	var full, empty []string
	for _, name := range s.names {
		viewers := fmt.Sprintf(`runcast_strategy_viewers{strategy=%q,transport="sse"} `, name)
		full, empty = append(full, viewers+"10"), append(empty, viewers+"0")
		if name != strategy.Redis {
			upstreams := fmt.Sprintf("runcast_strategy_upstreams{strategy=%q} ", name)
			full, empty = append(full, upstreams+"1"), append(empty, upstreams+"0")
		}
	}
	if n := s.subscribers(t, id); n != 1 || !has(full...) {
		t.Errorf("%d subscriptions of Redis, or not one upstream each", n)
	}
	leave()
	eventually(t, "end of all that was followed", func() bool { return has(empty...) && s.subscribers(t, id) == 0 })
	subscribed, unsubscribed := s.signals(t, id, handlers.Subscribe), s.signals(t, id, handlers.Unsubscribe)
	if subscribed != 2 || unsubscribed != 2 {
		t.Errorf("subscribed %d times and unsubscribed %d, want signal and push once each", subscribed, unsubscribed)
	}
	// Long enough for each strategy to look at the run, as another node does.
	s.calls.take()
	stays := sse(t, t.Context(), strategy.Poll, other.stream(strategy.Poll, id))
	for n := int64(8); n <= 10; n++ {
		s.count(t, id, n)
		stays.sees(fmt.Sprintf(`"current":%d`, n))
	}
	looks := 0
	eventually(t, "fourth look of the other node", func() bool {
		looks += other.calls.take()["DescribeWorkflowExecution"]
		return looks >= 7
	})
	if calls := s.calls.take(); sum(calls) != 0 {
		t.Errorf("with no viewer there were %v", calls)
	}
	s.count(t, id, 0)
	stays.ends(`"status":"completed"`)
}
