package strategy_test

import (
	"slices"
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/strategy"
)

// manner is how one strategy follows a run for which all is well.
type manner struct {
	name string
	// make returns the strategy as an [arm]'s does. Its pauses are the
	// defaults; its patience is not, so that a slow machine is no outage.
	make func(w *world) strategy.Strategy
	// calls has every method that it may call while the run is open.
	calls map[string]rate
}

// rate bounds how often a method is called. A slow machine only lengthens
// pauses, so the most rises with all the time that it takes. It rises by one
// for each call that was refused, too, behind which the run is looked at again:
// a server lets few queries of a run wait at a time.
type rate struct{ least, most amount }

// amount is a number of calls: each for a change, one each time that so long
// has passed (0: time brings none), and a few beside, as for the beginning.
type amount struct {
	each  int
	every time.Duration
	few   int
}

func (a amount) of(changes int, d time.Duration) int {
	n := a.each*changes + a.few
	if a.every > 0 {
		n += int(d / a.every)
	}
	return n
}

// patient waits for answers as long as a busy machine may take.
var patient = strategy.CallOptions{Timeout: 20 * time.Second}

// patientSubscribing is that for the first message, too.
var patientSubscribing = strategy.SubscribeOptions{CallOptions: patient, FirstWait: within / 3}

// silence is the shortest after which signal and push look by themselves.
const silence = strategy.CheckEvery * 4 / 5

// manners are in the order of [strategy.Names].
var manners = []manner{
	{
		name: strategy.Poll,
		make: func(w *world) strategy.Strategy {
			return strategy.NewPoll(w.theirs, strategy.PollOptions{CallOptions: patient})
		},
		calls: map[string]rate{
			"DescribeWorkflowExecution": {amount{every: 8 * strategy.PollEvery}, amount{every: strategy.PollEvery, few: 1}},
			"QueryWorkflow":             {amount{each: 1}, amount{every: strategy.PollEvery, few: 1}},
		},
	},
	{
		name: strategy.Adaptive,
		make: func(w *world) strategy.Strategy {
			return strategy.NewAdaptive(w.theirs, strategy.AdaptiveOptions{CallOptions: patient})
		},
		// What sets it apart from poll is seen beside that.
		calls: map[string]rate{
			"DescribeWorkflowExecution": {amount{each: 1}, amount{every: strategy.AdaptiveMin, few: 1}},
			"QueryWorkflow":             {amount{each: 1}, amount{every: strategy.AdaptiveMin, few: 1}},
		},
	},
	{
		name: strategy.Update,
		make: func(w *world) strategy.Strategy {
			return strategy.NewUpdate(w.theirs, strategy.UpdateOptions{CallOptions: patient})
		},
		calls: map[string]rate{
			// A look after a long wait may find a change first.
			"UpdateWorkflowExecution":     {amount{each: 1, few: -2}, amount{each: 1, every: strategy.UpdateProbeEvery, few: 3}},
			"PollWorkflowExecutionUpdate": {amount{}, amount{every: strategy.UpdateProbeEvery, few: 3}},
			"DescribeWorkflowExecution":   {amount{few: 1}, amount{every: strategy.UpdateProbeEvery, few: 3}},
			"QueryWorkflow":               {amount{few: 1}, amount{every: strategy.UpdateProbeEvery, few: 3}},
		},
	},
	{
		name: strategy.Signal,
		make: func(w *world) strategy.Strategy { return strategy.NewSignal(w.theirs, receiver(w), patientSubscribing) },
		calls: map[string]rate{
			"SignalWorkflowExecution":   {amount{few: 1}, amount{every: silence, few: 3}},
			"QueryWorkflow":             {amount{each: 1}, amount{each: 1, every: silence, few: 3}},
			"DescribeWorkflowExecution": {amount{few: 1}, amount{every: silence, few: 3}},
		},
	},
	{
		name: strategy.Push,
		make: func(w *world) strategy.Strategy { return strategy.NewPush(w.theirs, receiver(w), patientSubscribing) },
		calls: map[string]rate{
			"SignalWorkflowExecution":   {amount{few: 1}, amount{every: silence, few: 3}},
			"QueryWorkflow":             {amount{}, amount{every: silence, few: 3}},
			"DescribeWorkflowExecution": {amount{few: 1}, amount{every: silence, few: 3}},
		},
	},
	{
		name: strategy.Redis,
		make: func(w *world) strategy.Strategy {
			p := strategy.NewRedis(w.store, strategy.RedisOptions{CallOptions: patient, Temporal: w.theirs})
			w.t.Cleanup(func() { p.Close() })
			return p
		},
		// It asks about a run that it sees before Redis does.
		calls: map[string]rate{"DescribeWorkflowExecution": {amount{}, amount{few: 1}}},
	},
}

// Each strategy costs Temporal what it says, and none of them is another in
// disguise: all follow one run at once, through some changes and a silence, and
// the calls of each are counted.
func TestEachFollowsInItsOwnManner(t *testing.T) {
	t.Parallel()
	// The run's worker has what each of them needs.
	host := newWorld(t, arm{redis: true, register: deliver, make: func(*world) strategy.Strategy { return nil }})
	host.worker()
	id := host.start("Commanded")
	begun := time.Now()
	viewers := map[string]*viewer{}
	var names []string
	for _, m := range manners {
		names = append(names, m.name)
		w := newWorld(t, arm{name: m.name, make: func(w *world) strategy.Strategy {
			if m.name == strategy.Redis {
				w.store = host.store
			}
			return m.make(w)
		}})
		viewers[m.name] = w.watch(id, progress.Position{})
	}
	if !slices.Equal(names, strategy.Names()) {
		t.Errorf("%q are followed by, want %q", names, strategy.Names())
	}
	for _, v := range viewers {
		v.until("the first state", func(progress.Event) bool { return true })
	}
	looks := func(name string) int { return viewers[name].world.calls.count("DescribeWorkflowExecution") }
	// quiet lasts until poll has looked so often. However slow the machine is,
	// that takes adaptive fewer looks, once it has begun to look less often.
	quiet := func(times int) {
		until := looks(strategy.Poll) + times
		eventually(t, "further look of poll", func() bool { return looks(strategy.Poll) >= until })
	}

	const changes = 6
	for n := range int64(changes) {
		host.signal(id, "do", command{Count: n + 1})
		for _, v := range viewers {
			v.until("the count", counted(n+1))
		}
	}
	quiet(4)
	poll, adaptive := looks(strategy.Poll), looks(strategy.Adaptive)
	quiet(10)
	poll, adaptive = looks(strategy.Poll)-poll, looks(strategy.Adaptive)-adaptive
	if adaptive > poll*2/3 {
		t.Errorf("while nothing has changed adaptive has looked %d times, poll %d: want far less than that", adaptive, poll)
	}
	for _, m := range manners {
		m.check(t, viewers[m.name].world.calls, changes, begun)
	}

	for name, v := range viewers {
		v.cancel()
		for g := range v.items {
			if n, isNotice := g.err.(*strategy.Notice); isNotice {
				v.notices = append(v.notices, n)
			}
		}
		if degraded(v) > 0 {
			t.Errorf("%s says %v", name, v.notices)
		}
	}
}

// check fails unless the calls since a time were those of the strategy.
func (m *manner) check(t *testing.T, c *callCounter, changes int, begun time.Time) {
	t.Helper()
	counts := map[string]int{}
	for _, method := range c.methods() {
		counts[method] = c.count(method)
		if _, ok := m.calls[method]; !ok {
			t.Errorf("%s has called %s", m.name, method)
		}
	}
	// Behind the counts, so that none of them is later.
	refused, _ := c.refusals()
	d := time.Since(begun)
	for method, r := range m.calls {
		least, most := r.least.of(changes, d), r.most.of(changes, d)+refused
		if n := counts[method]; n < least || n > most {
			t.Errorf("%s has called %s %d times in %v with %d changes and %d refusals, want %d to %d",
				m.name, method, n, d, changes, refused, least, most)
		}
	}
}
