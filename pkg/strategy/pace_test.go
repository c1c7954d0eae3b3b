package strategy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/progress"
)

func TestPollLooksTwiceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clockwork{begun: time.Now(), version: func(since time.Duration) int64 { return 1 + int64(since/(2*time.Second)) }}
		versions, _ := take(t, NewPoll(c, PollOptions{}), c, 10*time.Second-time.Millisecond)
		if len(c.describes) != 20 || c.queries != 20 {
			t.Errorf("%d describes and %d queries in 10 s, want 20 of each", len(c.describes), c.queries)
		}
		for i, at := range c.describes {
			if at != time.Duration(i)*500*time.Millisecond {
				t.Errorf("describe %d came at %v", i, at)
			}
		}
		if want := []int64{1, 2, 3, 4, 5}; !slices.Equal(versions, want) {
			t.Errorf("the versions are %v, want %v", versions, want)
		}
	})
}

func TestAdaptiveLooksLessOftenWhileNothingChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const change = 40 * time.Second
		c := &clockwork{begun: time.Now(), version: func(since time.Duration) int64 {
			if since < change {
				return 1
			}
			return 2
		}}
		take(t, NewAdaptive(c, AdaptiveOptions{}), c, 60*time.Second)
		interval, jitter := 100*time.Millisecond, false
		for i := 1; i < len(c.describes); i++ {
			pause := c.describes[i] - c.describes[i-1]
			if low := max(interval*8/10, 100*time.Millisecond); pause > interval || pause < low {
				t.Errorf("pause %d is %v, want %v to %v", i, pause, low, interval)
			}
			jitter = jitter || pause != interval
			interval = min(interval*3/2, 5*time.Second)
			if c.describes[i-1] < change && c.describes[i] >= change {
				interval = 100 * time.Millisecond
			}
		}
		if !jitter {
			t.Error("all pauses are as long as they can be")
		}
		if n := len(c.describes); n < 25 || n > 45 {
			t.Errorf("%d looks in a minute", n)
		}
	})
}

// A server that has too much to do is asked twice as seldom each time, up to
// half a minute, and the caller is told once.
func TestLimitedSlowsDown(t *testing.T) {
	for name, make := range map[string]func(c *clockwork) Strategy{
		Poll:     func(c *clockwork) Strategy { return NewPoll(c, PollOptions{}) },
		Adaptive: func(c *clockwork) Strategy { return NewAdaptive(c, AdaptiveOptions{}) },
		Update:   func(c *clockwork) Strategy { return NewUpdate(c, UpdateOptions{}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &clockwork{begun: time.Now(), version: one, describing: func(time.Duration) error {
					return errLimited
				}}
				_, notices := take(t, make(c), c, 5*time.Minute)
				if n := len(c.describes); n < 12 || n > 25 {
					t.Errorf("%d calls in five minutes", n)
				}
				if last := c.describes[len(c.describes)-1] - c.describes[len(c.describes)-2]; last < 24*time.Second || last > 30*time.Second {
					t.Errorf("the last pause is %v", last)
				}
				if len(notices) != 1 || notices[0].Kind != Stale || !notices[0].Since.Equal(c.begun) {
					t.Errorf("the notices are %v", notices)
				}
			})
		})
	}
}

// The call by which changes come may be refused alone: it slows down all the
// same, and the caller is told once, though the others are answered.
func TestRefusedSlowsDown(t *testing.T) {
	for name, make := range map[string]func(c *clockwork, r *Receiver) Strategy{
		Update: func(c *clockwork, _ *Receiver) Strategy { return NewUpdate(c, UpdateOptions{}) },
		Signal: func(c *clockwork, r *Receiver) Strategy { return NewSignal(c, r, SubscribeOptions{}) },
		Push:   func(c *clockwork, r *Receiver) Strategy { return NewPush(c, r, SubscribeOptions{}) },
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := newReceiver(t)
			synctest.Test(t, func(t *testing.T) {
				c := &clockwork{begun: time.Now(), version: one}
				_, notices := take(t, make(c, r), c, 5*time.Minute)
				if n := len(c.refusals); n < 12 || n > 25 {
					t.Errorf("%d calls were refused in five minutes", n)
				}
				if n := len(c.describes); n > 26 {
					t.Errorf("it was described %d times in five minutes", n)
				}
				if last := c.refusals[len(c.refusals)-1] - c.refusals[len(c.refusals)-2]; last < 24*time.Second || last > 30*time.Second {
					t.Errorf("the last pause is %v", last)
				}
				if len(notices) != 1 || notices[0].Kind != Stale || !notices[0].Since.Equal(c.begun) {
					t.Errorf("the notices are %v", notices)
				}
			})
		})
	}
}

// One run that is busy is no reason to leave the server alone for as long.
func TestBusyWorkflowIsAskedAgainSooner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clockwork{begun: time.Now(), version: one, refusal: func(time.Duration) error {
			return serviceerror.NewResourceExhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_BUSY_WORKFLOW, "the workflow is busy")
		}}
		_, notices := take(t, NewUpdate(c, UpdateOptions{}), c, 5*time.Minute)
		if last := c.refusals[len(c.refusals)-1] - c.refusals[len(c.refusals)-2]; last < 4*time.Second || last > 5*time.Second {
			t.Errorf("the last pause is %v", last)
		}
		if len(notices) != 1 || notices[0].Kind != Stale {
			t.Errorf("the notices are %v", notices)
		}
	})
}

// An update that is refused by its run is answered: what was stale while none
// was is so no more, although polling goes on in its place.
func TestStaleEndsWhereUpdatesDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clockwork{begun: time.Now(), version: one, refusal: func(since time.Duration) error {
			if since < 10*time.Second {
				return errLimited
			}
			return serviceerror.NewResourceExhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_CONCURRENT_LIMIT, "ten wait already")
		}}
		_, notices := take(t, NewUpdate(c, UpdateOptions{}), c, time.Minute)
		var kinds []string
		for _, n := range notices {
			kinds = append(kinds, n.Kind)
		}
		if want := []string{Stale, Live, Degraded}; !slices.Equal(kinds, want) {
			t.Errorf("the notices are %v, want %v", notices, want)
		}
	})
}

// A query that a message asks for, and that is refused, is not made again at
// once.
func TestRefusedQueryAfterAMessage(t *testing.T) {
	r, _ := newReceiver(t)
	synctest.Test(t, func(t *testing.T) {
		const change = 5 * time.Second
		c := &clockwork{begun: time.Now(), refusing: func(since time.Duration) bool { return since >= change && since < 2*change }}
		c.version = func(since time.Duration) int64 { return 1 + int64(since/change) }
		tell := func(id string, version int64) {
			r.dispatch(id, &handlers.Post{Subscriber: id[:len(id)-1], Data: handlers.State{Started: c.begun.UnixMilli(), Version: version, RunID: "run"}})
		}
		c.subscribed = func(s handlers.Subscription) {
			tell(s.ID+"1", 1)
			time.AfterFunc(change, func() { tell(s.ID+"2", 2) })
		}
		versions, _ := take(t, NewSignal(c, r, SubscribeOptions{}), c, 20*time.Second)
		if !slices.Contains(versions, 3) {
			t.Errorf("the versions are %v", versions)
		}
		pause := minBackoff
		for i := 1; i < len(c.queried) && c.queried[i] < 2*change; i++ {
			if before := c.queried[i-1]; before >= change {
				if c.queried[i]-before < pause*8/10 {
					t.Errorf("the queries came at %v", c.queried)
				}
				pause = min(2*pause*8/10, maxBackoff)
			}
		}
	})
}

// A worker that is away shows after one query's time, once for each time that
// it is away.
func TestStaleOncePerOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clockwork{begun: time.Now(), version: one, querying: func(since time.Duration) bool {
			return since%(time.Minute) > 30*time.Second
		}}
		_, notices := take(t, NewPoll(c, PollOptions{}), c, 2*time.Minute+10*time.Second)
		var kinds []string
		for _, n := range notices {
			kinds = append(kinds, n.Kind)
		}
		if want := []string{Stale, Live, Stale, Live}; !slices.Equal(kinds, want) {
			t.Fatalf("the notices are %v, want %v", notices, want)
		}
		if at := notices[0].Since.Sub(c.begun); at != 30*time.Second {
			t.Errorf("stale since %v, want 30s", at)
		}
	})
}

func TestBounded(t *testing.T) {
	long := make([]byte, 0, 3*errorMax)
	for range errorMax {
		long = append(long, "é"...)
	}
	if s := bounded(string(long)); len(s) > errorMax || len(s) < errorMax-4 || s[len(s)-3:] != "…" {
		t.Errorf("%d bytes, ending with %q", len(s), s[len(s)-4:])
	}
	if s := bounded("short"); s != "short" {
		t.Errorf("it is %q", s)
	}
}

// Signal asks once at first, and then only for what it was told of; push not
// even that.
func TestNothingIsAskedWhileNothingChanges(t *testing.T) {
	for name, queries := range map[string]int{Signal: 4, Push: 0} {
		r, _ := newReceiver(t)
		synctest.Test(t, func(t *testing.T) {
			const change = 100 * time.Second
			c := &clockwork{begun: time.Now()}
			c.version = func(since time.Duration) int64 { return 1 + int64(since/change) }
			o := SubscribeOptions{CheckEvery: time.Hour, RenewEvery: 4 * time.Minute}
			told := false
			c.subscribed = func(s handlers.Subscription) {
				if told {
					return // it is renewed
				}
				told = true
				for n := range int64(4) {
					time.AfterFunc(time.Duration(n)*change, func() {
						r.dispatch(s.ID+fmt.Sprint(n), &handlers.Post{Subscriber: s.ID, Data: handlers.State{
							Started: c.begun.UnixMilli(), Version: n + 1, RunID: "run", Chain: "run",
						}})
					})
				}
			}
			s := NewSignal(c, r, o)
			if name == Push {
				s = NewPush(c, r, o)
			}
			versions, notices := take(t, s, c, 400*time.Second)
			if !slices.Equal(versions, []int64{1, 2, 3, 4}) || len(notices) > 0 {
				t.Errorf("%s: versions %v, notices %v", name, versions, notices)
			}
			// A subscription is renewed with a look.
			if c.queries > queries+1 || len(c.describes) > 3 {
				t.Errorf("%s: %d queries, describes at %v", name, c.queries, c.describes)
			}
		})
	}
}

// That a run returns is in its last message: it is not queried for that, which
// would have a worker read the history of a run that has closed.
func TestReturnIsNotAskedFor(t *testing.T) {
	for _, tt := range []struct {
		known   int64 // the version before the last one's message
		queries int
	}{{1, 0}, {0, 1}} {
		r, _ := newReceiver(t)
		synctest.Test(t, func(t *testing.T) {
			const returns = 10 * time.Second
			last := 3 - tt.known
			c := &clockwork{begun: time.Now(), version: func(since time.Duration) int64 {
				if since < returns {
					return 1
				}
				return last
			}}
			c.subscribed = func(s handlers.Subscription) {
				tell := func(state handlers.State) {
					state.Started, state.RunID, state.Chain = c.begun.UnixMilli(), "run", "run"
					r.dispatch(fmt.Sprint(s.ID, state.Version), &handlers.Post{Subscriber: s.ID, Data: state})
				}
				tell(handlers.State{Version: 1})
				time.AfterFunc(returns, func() { tell(handlers.State{Version: last, Returned: progress.StatusCompleted}) })
			}
			versions, notices := take(t, NewSignal(c, r, SubscribeOptions{}), c, returns+time.Millisecond)
			if want := []int64{1, last}; !slices.Equal(versions, want) || len(notices) > 0 {
				t.Errorf("the versions are %v, want %v; %v", versions, want, notices)
			}
			n := 0
			for _, at := range c.queried {
				if at >= returns {
					n++
				}
			}
			if n != tt.queries {
				t.Errorf("%d queries for version %d, want %d", n, last, tt.queries)
			}
		})
	}
}

// A return that a failed task has undone is none: the run goes on being
// followed.
func TestReturnThatWasUndone(t *testing.T) {
	for _, tt := range []struct {
		name string
		// goesOn is when the run does. It says so, and need not be asked first.
		goesOn time.Duration
	}{
		{Signal, 12 * time.Second}, {Push, 12 * time.Second},
		{Signal, 50 * time.Second}, {Push, 50 * time.Second},
	} {
		name, goesOn := tt.name, tt.goesOn
		r, _ := newReceiver(t)
		synctest.Test(t, func(t *testing.T) {
			c := &clockwork{begun: time.Now(), version: func(since time.Duration) int64 {
				if since < goesOn {
					return 1
				}
				return 3
			}}
			c.subscribed = func(s handlers.Subscription) {
				tell := func(version int64, returned progress.Status) {
					r.dispatch(fmt.Sprint(s.ID, version), &handlers.Post{Subscriber: s.ID, Data: handlers.State{
						Started: c.begun.UnixMilli(), Version: version, RunID: "run", Chain: "run", Returned: returned,
					}})
				}
				tell(1, "")
				time.AfterFunc(10*time.Second, func() { tell(2, progress.StatusCompleted) })
				time.AfterFunc(goesOn, func() { tell(3, "") })
			}
			s := NewSignal(c, r, SubscribeOptions{})
			if name == Push {
				s = NewPush(c, r, SubscribeOptions{})
			}
			versions, notices := take(t, s, c, goesOn+10*time.Second)
			if !slices.Equal(versions, []int64{1, 2, 3}) || len(notices) > 0 {
				t.Errorf("%s: versions %v, notices %v", name, versions, notices)
			}
		})
	}
}

// What a run says of its end just before it closes is the end, and not what it
// said in a task that failed, which may have counted further. Then all that
// comes is behind what was seen.
func TestEndBehindAReturnThatWasUndone(t *testing.T) {
	for _, tt := range []struct {
		name         string
		undone, last int64 // versions
		want         []int64
		same         bool // but for when it was said
	}{
		{Signal, 2, 4, []int64{1, 2, 4, 5}, false}, {Push, 2, 4, []int64{1, 2, 4, 5}, false},
		{Signal, 2, 2, []int64{1, 2, 3, 4}, false}, {Push, 2, 2, []int64{1, 2, 3, 4}, false},
		{Push, 4, 3, []int64{1, 4, 5, 6}, false}, {Push, 2, 2, []int64{1, 2, 3}, true},
	} {
		r, _ := newReceiver(t)
		synctest.Test(t, func(t *testing.T) {
			const undone, ends = 10 * time.Second, 10*time.Second + 50*time.Millisecond
			closed := func(since time.Duration) bool { return since >= ends }
			c := &clockwork{begun: time.Now(), closed: closed, version: func(since time.Duration) int64 {
				if closed(since) {
					return tt.last
				}
				return 1
			}}
			c.subscribed = func(s handlers.Subscription) {
				tell := func(version int64, returned progress.Status) {
					c.changed = time.Now()
					p := &handlers.Post{Subscriber: s.ID, Data: handlers.State{
						Started: c.begun.UnixMilli(), Version: version, Time: c.changed, RunID: "run", Chain: "run", Returned: returned,
					}}
					if !tt.same {
						p.Data.Message = c.changed.String()
					}
					r.dispatch(fmt.Sprint(s.ID, version, c.changed), p)
				}
				tell(1, "")
				time.AfterFunc(undone, func() { tell(tt.undone, progress.StatusCompleted) })
				time.AfterFunc(ends, func() { tell(tt.last, progress.StatusCompleted) })
			}
			s := NewSignal(c, r, SubscribeOptions{})
			if tt.name == Push {
				s = NewPush(c, r, SubscribeOptions{})
			}
			versions, notices := take(t, s, c, time.Minute)
			if !slices.Equal(versions, tt.want) || len(notices) > 0 {
				t.Errorf("%s, %d undone: versions %v, want %v; notices %v", tt.name, tt.undone, versions, tt.want, notices)
			}
		})
	}
}

// A long history is not made longer by those who follow the run: they leave,
// it is polled, and that is said once, also where a message was lost just then.
func TestLongHistoryIsPolled(t *testing.T) {
	const full = 10 * time.Minute
	for _, tt := range []struct {
		name   string
		change time.Duration
	}{{Signal, 2 * full}, {Push, 2 * full}, {Signal, full + time.Minute}, {Push, full + time.Minute}} {
		name, change := tt.name, tt.change
		r, _ := newReceiver(t)
		synctest.Test(t, func(t *testing.T) {
			c := &clockwork{begun: time.Now()}
			c.version = func(since time.Duration) int64 { return 1 + int64(since/change) }
			c.events = func(since time.Duration) int64 {
				if since >= full {
					return subscribedEvents
				}
				return 100
			}
			var renewed []time.Duration
			c.subscribed = func(s handlers.Subscription) {
				renewed = append(renewed, time.Since(c.begun))
				if len(renewed) == 1 {
					r.dispatch(s.ID, &handlers.Post{Subscriber: s.ID, Data: handlers.State{Started: c.begun.UnixMilli(), Version: 1, RunID: "run", Chain: "run"}})
				}
			}
			s := NewSignal(c, r, SubscribeOptions{})
			if name == Push {
				s = NewPush(c, r, SubscribeOptions{})
			}
			versions, notices := take(t, s, c, 21*time.Minute)
			if !slices.Equal(versions, []int64{1, 2}) || len(notices) != 1 || notices[0].Kind != Degraded ||
				!strings.Contains(notices[0].Reason, "history") {
				t.Errorf("%s, %v: versions %v, notices %v", name, change, versions, notices)
			}
			if len(renewed) != 3 || renewed[2] > full || len(c.left) != 1 || c.left[0] < full || c.left[0] > full+RenewEvery {
				t.Errorf("%s, %v: it subscribed at %v, and left at %v", name, change, renewed, c.left)
			}
		})
	}
}
