package strategy_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/worker"

	"github.com/runcast/runcast/pkg/delivery"
	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/strategy"
	"github.com/runcast/runcast/pkg/webhook"
)

const secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"

func init() {
	arms = append(arms, subscribeArm(strategy.Signal, subscribing), subscribeArm(strategy.Push, subscribing))
}

// subscribeArm is one of the two that are told by the run, with the options.
func subscribeArm(name string, o strategy.SubscribeOptions) arm {
	a := arm{
		name: name, uses: []string{"SignalWorkflowExecution"}, needs: handlers.Subscribe, register: deliver,
		make: func(w *world) strategy.Strategy { return strategy.NewPush(w.theirs, receiver(w), o) },
	}
	if name == strategy.Signal {
		a.uses = append(a.uses, "QueryWorkflow")
		a.make = func(w *world) strategy.Strategy { return strategy.NewSignal(w.theirs, receiver(w), o) }
	}
	return a
}

func subscribes(a arm) bool { return a.needs == handlers.Subscribe }

// subscribing makes runs that end without a word show sooner than by default.
var subscribing = strategy.SubscribeOptions{CallOptions: fast, CheckEvery: 2 * time.Second}

func secrets(w *world) webhook.Keys {
	w.t.Helper()
	k, err := webhook.ParseKeys(secret)
	if err != nil {
		w.t.Fatal(err)
	}
	return k
}

// receiver serves one on loopback.
func receiver(w *world) *strategy.Receiver {
	w.t.Helper()
	s := httptest.NewUnstartedServer(nil)
	r, err := strategy.NewReceiver(secrets(w), "http://"+s.Listener.Addr().String()+"/v1/strategies/callback")
	if err != nil {
		w.t.Fatal(err)
	}
	s.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if w.away.Load() {
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		r.ServeHTTP(rw, req)
	})
	s.Start()
	w.t.Cleanup(s.Close)
	return r
}

// deliver registers what tells subscribers, without a Redis.
func deliver(w *world, r worker.Registry) { deliverTo(w, r, "127.0.0.1") }

func deliverTo(w *world, r worker.Registry, allowed ...string) {
	w.t.Helper()
	allow, err := webhook.ParseAllow(allowed...)
	if err != nil {
		w.t.Fatal(err)
	}
	s, err := webhook.NewSender(webhook.Options{Keys: secrets(w), Allow: allow})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.Close)
	delivery.New(delivery.Options{Sender: s}).Register(r)
}

// Where no message comes, because workers may not call this process, it goes
// on by polling, and says what to do about it; and again without once they may.
func TestNoMessageComes(t *testing.T) {
	t.Parallel()
	eachArm(t, subscribes, func(t *testing.T, a arm) {
		a.register = func(w *world, r worker.Registry) { deliverTo(w, r) }
		w := newWorld(t, a)
		stop := w.worker()
		v := w.follow("Commanded")
		n, _ := v.notice(strategy.Degraded)
		if !strings.Contains(n.Error(), "RUNCAST_PUSH_ALLOW") || !strings.Contains(n.Error(), "RUNCAST_CALLBACK_URL") {
			t.Errorf("the notice is %v", n)
		}
		if strings.Contains(n.Reason, "127.0.0.1") || strings.Contains(n.Reason, "RUNCAST") {
			t.Errorf("viewers are told %q", n.Reason)
		}
		events := v.counts(1)
		stop()
		w.arm.register = deliver
		w.worker()
		events = append(events, v.counts(2)...)
		events = append(events, v.returns("complete")...)
		rising(t, events)
	})
}

// A receiver that goes away after its first message is missed at a check: it
// goes on by polling and says so, and again without once the receiver is back.
func TestMessagesStop(t *testing.T) {
	t.Parallel()
	eachArm(t, subscribes, func(t *testing.T, a arm) {
		o := subscribing
		o.RenewEvery = 6 * time.Second
		w := newWorld(t, subscribeArm(a.name, o))
		w.worker()
		v := w.follow("Commanded")
		events := v.counts(1)
		w.away.Store(true)
		events = append(events, v.counts(2)...)
		for n := int64(3); degraded(v) == 0; n++ {
			// A renewal that comes first begins anew as well.
			events = append(events, v.counts(n)...)
		}
		w.away.Store(false)
		_, more := v.notice(strategy.Live)
		events = append(events, more...)
		events = append(events, v.counts(99)...)
		events = append(events, v.returns("complete")...)
		rising(t, events)
	})
}

// Who goes says so to the run, which need not find out by what it cannot
// deliver.
func TestUnsubscribes(t *testing.T) {
	t.Parallel()
	eachArm(t, subscribes, func(t *testing.T, a arm) {
		w := newWorld(t, a)
		w.worker()
		v := w.follow("Commanded")
		v.counts(1)
		// Only a subscriber learns of another one so soon.
		v.counts(2)
		v.cancel()
		for more := true; more; _, more = v.next() {
		}
		// The sequence has ended, so the signal was made.
		var signals []string
		it := w.client.GetWorkflowHistory(t.Context(), v.id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for it.HasNext() {
			e, err := it.Next()
			if err != nil {
				t.Fatal(err)
			}
			if s := e.GetWorkflowExecutionSignaledEventAttributes(); s != nil {
				signals = append(signals, s.GetSignalName())
			}
		}
		if n := len(signals); signals[n-1] != handlers.Unsubscribe {
			t.Errorf("the signals are %q, want one to unsubscribe at the end", signals)
		}
	})
}

// A run that continues as new hands its subscribers on: its successor tells
// them, long before they look by themselves.
func TestSubscribersAreHandedOn(t *testing.T) {
	t.Parallel()
	eachArm(t, subscribes, func(t *testing.T, a arm) {
		o := subscribing
		o.CheckEvery = time.Hour
		w := newWorld(t, subscribeArm(a.name, o))
		w.worker()
		v := w.follow("Commanded")
		before := v.counts(1)
		w.signal(v.id, "do", command{Return: "continue"})
		first := before[len(before)-1].RunID
		v.until("the next run", func(e progress.Event) bool { return e.RunID != first })
		v.counts(2)
		v.returns("complete")
		for _, n := range v.notices {
			t.Errorf("it says %v", n)
		}
	})
}
