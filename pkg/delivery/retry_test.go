package delivery

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/handlers"
)

// A receiver that always fails hears of a state five times, under one ID and
// ever less often, and it is one letter then; of the end three times. The time
// between is that of Temporal's test environment, which has nobody wait for it.
func TestRetries(t *testing.T) {
	c := redis.NewClient(&redis.Options{Addr: testenv.Redis(t).Addr})
	defer c.Close()
	r := &runs{t: t, letters: letters(t, c, LetterOptions{})}
	r.deliverer = New(Options{Sender: sender(t), Letters: r.letters})
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	var mu sync.Mutex
	var at []time.Time
	s := takePosts(t, func(_ int, w http.ResponseWriter) {
		mu.Lock()
		defer mu.Unlock()
		at = append(at, env.Now())
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	env.SetTestTimeout(20 * time.Second)
	env.RegisterWorkflowWithOptions(counting, workflow.RegisterOptions{Name: "counting"})
	r.deliverer.Register(env)
	if err := env.SetMemoOnStart(map[string]any{handlers.PushMemo: s.URL}); err != nil {
		t.Fatal(err)
	}
	env.RegisterDelayedCallback(func() { env.SignalWorkflow("count", 0) }, time.Minute)
	env.ExecuteWorkflow("counting")
	if err := env.GetWorkflowError(); err != nil || !env.IsWorkflowCompleted() {
		t.Fatal(err)
	}
	var apart []time.Duration
	for i := range at[1:] {
		apart = append(apart, at[i+1].Sub(at[i]).Round(time.Second))
	}
	want := []time.Duration{1, 2, 4, 8, 45, 1, 2} // the run returns a minute after its start
	for i := range want {
		want[i] *= time.Second
	}
	if !slices.Equal(apart, want) {
		t.Errorf("attempts came %v apart, want %v", apart, want)
	}
	_, ids, _ := s.got()
	list := r.list()
	if len(list) != 2 || list[1].Attempts != 5 || list[0].Attempts != 3 {
		t.Fatalf("the letters are %+v", list)
	}
	var as []string
	for range 5 {
		as = append(as, list[1].ID)
	}
	for range 3 {
		as = append(as, list[0].ID)
	}
	if !slices.Equal(ids, as) {
		t.Errorf("the attempts had the IDs %q, want %q", ids, as)
	}
}

// What a real run asks Temporal for is that, too.
func TestRetryPolicy(t *testing.T) {
	r := newRuns(t)
	s := takePosts(t, nil)
	run := r.start(s.URL)
	eventually(t, "first push", func() bool { return s.count() == 1 })
	r.signal(run, "count", 0)
	if err := run.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	var attempts []int32
	for it := r.client.GetWorkflowHistory(t.Context(), run.GetID(), run.GetRunID(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
		e, err := it.Next()
		if err != nil {
			t.Fatal(err)
		}
		a := e.GetActivityTaskScheduledEventAttributes()
		if a == nil {
			continue
		}
		p := a.RetryPolicy
		if p.InitialInterval.AsDuration() != time.Second || p.BackoffCoefficient != 2 || p.MaximumInterval.AsDuration() < 8*time.Second {
			t.Errorf("%s is tried again by %v", a.ActivityType.Name, p)
		}
		if within := a.ScheduleToCloseTimeout.AsDuration(); within < 40*time.Second {
			t.Errorf("all of it may take %v", within)
		}
		attempts = append(attempts, p.MaximumAttempts)
	}
	if !slices.Equal(attempts, []int32{5, 3}) {
		t.Errorf("pushes have %v attempts, want 5 and 3", attempts)
	}
}
