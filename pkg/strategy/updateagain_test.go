package strategy

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/temporal"

	"github.com/runcast/runcast/pkg/handlers"
)

// The ways in which an update is refused.
var (
	errTenWait  = serviceerror.NewResourceExhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_CONCURRENT_LIMIT, "limit on number of concurrent in-flight updates has been reached (10)")
	errPaused   = serviceerror.NewFailedPrecondition("Workflow is paused. Cannot update the workflow.")
	errAllTaken = serviceerror.NewFailedPrecondition("The limit on the total number of distinct updates in this workflow has been reached (2000).")
	errWaiting  = temporal.NewApplicationError("8 wait already", handlers.RefusedWaiting)
	errTotal    = temporal.NewApplicationError("the run has taken 1900 updates", handlers.RefusedTotal)
)

// What a run refuses for the moment is tried again, half as often each time,
// and polled meanwhile; what it refuses for good is not tried again.
func TestRefusedIsTriedAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		refusal error
		lasts   bool
	}{
		"ten wait at the server":         {errTenWait, false},
		"eight wait at the run":          {errWaiting, false},
		"paused":                         {errPaused, false},
		"2,000 were taken by the server": {errAllTaken, true},
		"1,900 were taken by the run":    {errTotal, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const change = 7 * time.Minute
				c := &clockwork{begun: time.Now(), refusal: func(time.Duration) error { return tt.refusal }}
				c.version = func(since time.Duration) int64 { return 1 + int64(since/change) }
				versions, notices := take(t, NewUpdate(c, UpdateOptions{PerWatch: true}), c, 10*time.Minute)
				if want := []int64{1, 2}; !slices.Equal(versions, want) {
					t.Errorf("the versions are %v, want %v", versions, want)
				}
				if len(notices) != 1 || notices[0].Kind != Degraded || strings.Contains(notices[0].Reason, "until the next run") != tt.lasts {
					t.Errorf("the notices are %v", notices)
				}
				if tt.lasts {
					if len(c.refusals) != 1 {
						t.Errorf("updates were tried at %v", c.refusals)
					}
					return
				}
				if n := len(c.refusals); n < 12 || n > 18 {
					t.Errorf("%d tries in ten minutes", n)
				}
				pause, jitter := UpdateTryAgain, false
				for i := 1; i < len(c.refusals); i++ {
					// It is tried at a look.
					got, most := c.refusals[i]-c.refusals[i-1], pause+AdaptiveMax
					if got < pause*8/10 || got > most {
						t.Errorf("pause %d is %v, want %v to %v", i, got, pause*8/10, most)
					}
					jitter = jitter || got != pause
					pause = min(2*pause, UpdateTryAgainMax)
				}
				if !jitter {
					t.Error("all pauses are as long as they can be")
				}
			})
		})
	}
}

// A run that takes updates again is followed by them again, which is said, and
// is tried soon where it refuses one once more. That it takes no more at all
// is said as well.
func TestTakenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const (
			taken  = 40 * time.Second
			change = 2 * time.Minute
			closed = 3 * time.Minute
			full   = 4 * time.Minute
		)
		c := &clockwork{begun: time.Now(), refusal: func(since time.Duration) error {
			switch {
			case since >= full:
				return errTotal
			case since < taken || since >= closed:
				return errWaiting
			}
			return nil
		}}
		c.version = func(since time.Duration) int64 {
			switch {
			case since < change:
				return 1
			case since < closed:
				return 2
			}
			return 3 // it answers who waits when it closes its door
		}
		versions, notices := take(t, NewUpdate(c, UpdateOptions{}), c, 10*time.Minute)
		if want := []int64{1, 2, 3}; !slices.Equal(versions, want) {
			t.Errorf("the versions are %v, want %v", versions, want)
		}
		var kinds []string
		for _, n := range notices {
			kinds = append(kinds, n.Kind)
		}
		if want := []string{Degraded, Live, Degraded, Degraded}; !slices.Equal(kinds, want) {
			t.Fatalf("the notices are %v, want %v", notices, want)
		}
		if at := notices[1].Since.Sub(c.begun); at < taken || at > taken+UpdateTryAgainMax {
			t.Errorf("it was live after %v", at)
		}
		if !strings.Contains(notices[3].Reason, "until the next run") {
			t.Errorf("the last notice is %v", notices[3])
		}
		// One that is tried, and one behind the change.
		if len(c.taken) != 2 || c.taken[1] < change || c.taken[1] > change+time.Second {
			t.Errorf("updates were taken after %v", c.taken)
		}
		again := c.refusals[slices.IndexFunc(c.refusals, func(at time.Duration) bool { return at >= closed }):]
		if pause := again[1] - again[0]; pause > UpdateTryAgain+AdaptiveMax {
			t.Errorf("it was tried again after %v", pause)
		}
		if last := c.refusals[len(c.refusals)-1]; last > full+UpdateTryAgainMax+AdaptiveMax {
			t.Errorf("it was tried after %v, when no more were taken", last)
		}
		// While updates are taken, a look is a probe.
		n := 0
		for _, at := range c.queried {
			if at > notices[1].Since.Sub(c.begun) && at < closed {
				n++
			}
		}
		if most := int((closed - taken) / UpdateProbeEvery); n > most+1 {
			t.Errorf("%d queries while updates were taken, want %d", n, most)
		}
	})
}

// A try that the server has no room for is no outage: the polling goes on.
func TestTryFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clockwork{begun: time.Now(), refusal: func(since time.Duration) error {
			if since < time.Second {
				return errTenWait
			}
			return errLimited
		}}
		c.version = func(since time.Duration) int64 { return 1 + int64(since/time.Minute) }
		versions, notices := take(t, NewUpdate(c, UpdateOptions{}), c, 5*time.Minute-time.Second)
		if want := []int64{1, 2, 3, 4, 5}; !slices.Equal(versions, want) {
			t.Errorf("the versions are %v, want %v", versions, want)
		}
		if len(notices) != 1 || notices[0].Kind != Degraded {
			t.Errorf("the notices are %v", notices)
		}
		if n := len(c.refusals); n < 7 || n > 12 {
			t.Errorf("%d tries in five minutes", n)
		}
	})
}
