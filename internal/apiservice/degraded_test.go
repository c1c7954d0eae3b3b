package apiservice

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/strategy"
)

// limited is held, in a run that lets itself be followed by few updates.
func limited(ctx workflow.Context) error {
	h, err := handlers.Install(handlers.NewContext(ctx, nil), handlers.Options{MaxUpdates: 3})
	if err != nil {
		return err
	}
	for {
		var n int64
		if workflow.GetSignalChannel(ctx, "count").Receive(ctx, &n); n == 0 {
			h.Finish(ctx, handlers.StatusOf(nil))
			return nil
		}
		h.Change(ctx, func(s *handlers.State) { s.Current = &n })
	}
}

// queryOnly has one handler of those by which a run can be followed.
func queryOnly(ctx workflow.Context) error {
	err := workflow.SetQueryHandler(ctx, handlers.Query, func() (handlers.State, error) {
		return handlers.State{Started: 1, Version: 1, Time: time.Unix(1, 0), RunID: workflow.GetInfo(ctx).WorkflowExecution.RunID}, nil
	})
	if err != nil {
		return err
	}
	workflow.GetSignalChannel(ctx, "count").Receive(ctx, nil)
	return nil
}

// told takes frames until the viewer is told why it is followed less well, if
// it has not been, and checks what it is told.
func (v *viewer) told(reason string, after time.Time) {
	v.t.Helper()
	is := func(f frame) bool { return f.kind == "gap" && f.has(`"reason":"`+reason+`"`) }
	var f frame
	if i := slices.IndexFunc(v.got, is); i >= 0 {
		f = v.got[i]
	} else {
		f = v.until("gap", `"reason":"`+reason+`"`)
	}
	var gap struct {
		Since  time.Time
		Detail string
	}
	if err := json.Unmarshal([]byte(f.data), &gap); err != nil {
		v.t.Fatalf("%s: %v", f.data, err)
	}
	if gap.Since.Before(after.Add(-time.Second)) || gap.Since.After(time.Now()) || gap.Detail == "" {
		v.t.Errorf("%s: since when, or why? %s", v.name, f.data)
	}
	if f.has("127.0.0.1") || f.has("localhost") || f.has("http") {
		v.t.Errorf("%s: a viewer is told an address: %s", v.name, f.data)
	}
}

// A run that takes no more updates, and one whose messages do not arrive, are
// followed to their ends all the same, and viewers are told.
func TestStrategiesDegraded(t *testing.T) {
	t.Parallel() // it waits most of the time
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nobody.Close() })
	s := serveStrategies(t, "", true).serve(t, Config{CallbackURL: "http://" + nobody.Addr().String()})
	_ = nobody.Close()
	for _, tt := range []struct{ strategy, workflowType, detail string }{
		{strategy.Update, "Limited", "adaptive polling until the next run, since this one takes no more updates"},
		{strategy.Signal, "ProgressiveWorkflow", "adaptive polling: no message comes from the run"},
		{strategy.Push, "ProgressiveWorkflow", "adaptive polling: no message comes from the run"},
	} {
		t.Run(tt.strategy, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			id := s.startAs(t, tt.workflowType)
			s.count(t, id, 1)
			early := sse(t, t.Context(), tt.strategy, s.stream(tt.strategy, id))
			early.sees(`"current":1`)
			for n := int64(2); n <= 6; n++ {
				s.count(t, id, n)
				early.sees(fmt.Sprintf(`"current":%d`, n))
			}
			early.told("degraded", begin)
			late := sse(t, t.Context(), tt.strategy, s.stream(tt.strategy, id))
			late.told("degraded", begin)
			late.sees(`"current":6`)
			if !late.got[0].has(tt.detail) {
				t.Errorf("told %s", late.got[0].data)
			}
			s.count(t, id, 0)
			for _, v := range []*viewer{early, late} {
				v.ends(`"status":"completed"`)
			}
		})
	}
}

// While no worker answers, those who come are told since when, by the
// strategies that wait for the run as well; once one does, they see the rest.
func TestSubscribedStale(t *testing.T) {
	t.Parallel()
	s := serveStrategies(t, "", true)
	id := s.start(t)
	s.count(t, id, 5)
	sse(t, t.Context(), strategy.Poll, s.stream(strategy.Poll, id)).sees(`"current":5`)
	s.stopWorker()
	s.count(t, id, 6) // what there is for a worker to do
	begin := time.Now()
	var viewers []*viewer
	for _, name := range []string{strategy.Update, strategy.Signal, strategy.Push} {
		viewers = append(viewers, sse(t, t.Context(), name, s.stream(name, id)))
	}
	for _, v := range viewers {
		v.told("stale", begin.Add(-time.Minute))
	}
	s.work()
	for _, v := range viewers {
		v.sees(`"current":6`)
	}
	s.count(t, id, 0)
	for _, v := range viewers {
		v.ends(`"status":"completed"`)
	}
}

// Where a run has not all handlers, viewers see how far it is, are told which
// one is missing, and do not have it asked again and again.
func TestHandlersHalfMissing(t *testing.T) {
	s := serveStrategies(t, "", false)
	id := s.startAs(t, "QueryOnly")
	for _, tt := range []struct{ strategy, missing string }{
		{strategy.Update, `no update handler \"runcast.next\"`},
		{strategy.Signal, `no signal handler \"runcast.subscribe\"`},
	} {
		s.calls.take()
		v := sse(t, t.Context(), tt.strategy, s.stream(tt.strategy, id))
		v.until("snapshot", id)
		if f := v.until("gap", `"reason":"stale"`); !f.has(tt.missing) {
			t.Errorf("%s: told %s, want %s", tt.strategy, f.data, tt.missing)
		}
		if calls := s.calls.take(); sum(calls) > 5 {
			t.Errorf("%s: until then there were %v", tt.strategy, calls)
		}
	}
	s.count(t, id, 0)
}
