package delivery

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/webhook"
)

func TestPauses(t *testing.T) {
	onBoth(t, func(t *testing.T, c redis.UniversalClient) {
		l := letters(t, c, LetterOptions{Pause: time.Minute})
		at := time.Now().Truncate(time.Millisecond)
		l.now = func() time.Time { return at }
		const url = "http://x.example/?token=1"
		enter := func(what string, want time.Duration) (failures int64) {
			t.Helper()
			failures, until, err := l.enter(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			got := time.Duration(0)
			if !until.IsZero() {
				got = until.Sub(at)
			}
			if got != want {
				t.Errorf("%s: paused for %v, want %v", what, got, want)
			}
			return failures
		}
		fail := func(entered int64, asked time.Duration) {
			t.Helper()
			if _, err := l.failed(t.Context(), url, entered, asked); err != nil {
				t.Fatal(err)
			}
		}
		enter("nothing failed yet", 0)
		for n := range int64(PauseAfter - 1) {
			fail(n, 0)
		}
		last := enter("one failure is missing", 0)
		fail(last, 0)
		enter("it keeps failing", time.Minute)
		for n := range int64(PauseAfter) {
			fail(n, 0)
		}
		fail(unasked, 0)
		enter("the others of them failed, and a replay", time.Minute)
		at = at.Add(time.Minute)
		fail(last, 0)
		probe := enter("the probe", 0)
		enter("beside the probe", probeFor)
		fail(unasked, 0)
		enter("a replay beside it failed", probeFor)
		fail(probe, 0)
		enter("the probe failed", 2*time.Minute)
		fail(probe, 0)
		enter("it is heard of twice", 2*time.Minute)
		at = at.Add(time.Minute)
		fail(unasked, 5*time.Minute)
		enter("a replay was asked to stay away", 5*time.Minute)
		fail(unasked, 2*time.Minute)
		enter("for less long than it is", 5*time.Minute)
		for range 40 {
			at = at.Add(2 * time.Hour)
			fail(enter("the next probe", 0), 0)
		}
		enter("for ever", time.Hour)
		if keys := c.Keys(t.Context(), l.base+"*").Val(); len(keys) != 1 || strings.Contains(keys[0], "token") {
			t.Errorf("%q", keys)
		} else if c.PTTL(t.Context(), keys[0]).Val() <= 0 {
			t.Error("it does not expire")
		}
		if err := l.succeeded(t.Context(), url); err != nil {
			t.Fatal(err)
		}
		enter("it is well", 0)
		fail(0, 3*time.Hour)
		enter("it asks for a rest", 3*time.Hour)
		for range PauseAfter {
			fail(0, 0)
		}
		if n := enter("those beside it do not count", 3*time.Hour); n != 1 {
			t.Errorf("%d failures are counted, want 1", n)
		}
	})
}

// Two hundred runs that push to an endpoint while it restarts pause it once.
func TestFailuresAtOncePauseOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, c redis.UniversalClient) {
		l := letters(t, c, LetterOptions{Pause: time.Minute})
		at := time.Now().Truncate(time.Millisecond)
		l.now = func() time.Time { return at }
		const url = "http://x.example/"
		// All of them began when it was well.
		fail := func(many int) {
			var all sync.WaitGroup
			for range many {
				all.Go(func() {
					if _, err := l.failed(t.Context(), url, 0, 0); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		}
		fail(200)
		failures, until, err := l.enter(t.Context(), url)
		if err != nil || failures != PauseAfter || !until.Equal(at.Add(time.Minute)) {
			t.Errorf("%d failures, paused for %v: %v", failures, until.Sub(at), err)
		}
	})
}

// Runs that push to one receiver by URLs with queries of their own pause it
// together; another path is another receiver.
func TestQueriesAreOneEndpoint(t *testing.T) {
	onBoth(t, func(t *testing.T, c redis.UniversalClient) {
		l := letters(t, c, LetterOptions{Pause: time.Minute})
		for run := range PauseAfter {
			if _, err := l.failed(t.Context(), fmt.Sprintf("http://X.example/in?run=%d", run), int64(run), 0); err != nil {
				t.Fatal(err)
			}
		}
		for url, paused := range map[string]bool{
			"http://x.example/in?run=one-more": true, "http://x.example:80/in": true,
			"http://x.example/in/other?run=1": false, "https://x.example/in": false, "http://x.example:81/in": false,
		} {
			if _, until, err := l.enter(t.Context(), url); err != nil || until.IsZero() == paused {
				t.Errorf("%s: paused until %v: %v, want paused: %t", url, until, err, paused)
			}
		}
	})
}

// What is wrong with a message does not pause its endpoint, and an answer that
// says so ends a row of failures.
func TestWhatCountsAgainstAnEndpoint(t *testing.T) {
	for _, tt := range []struct {
		name string
		why  webhook.Error
		want int64
	}{
		{"no answer", webhook.Error{}, PauseAfter},
		{"too much to do", webhook.Error{Status: 503}, PauseAfter},
		{"gone", webhook.Error{Status: 410, Final: true}, 0},
		{"not found", webhook.Error{Status: 404, Final: true}, 0},
		{"a redirect", webhook.Error{Status: 307, Final: true}, 0},
		{"a forbidden address, or too large a body", webhook.Error{Final: true}, PauseAfter - 1},
		{"no secret", *errNoSecret, PauseAfter - 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, c redis.UniversalClient) {
				l := letters(t, c, LetterOptions{})
				const url = "http://x.example/"
				for n := range int64(PauseAfter - 1) {
					if _, err := l.failed(t.Context(), url, n, 0); err != nil {
						t.Fatal(err)
					}
				}
				failures, _, err := l.enter(t.Context(), url)
				if err == nil {
					err = l.refused(t.Context(), url, failures, 0, &tt.why)
				}
				if err != nil {
					t.Fatal(err)
				}
				failures, until, err := l.enter(t.Context(), url)
				if err != nil || failures != tt.want || until.IsZero() != (tt.want < PauseAfter) {
					t.Errorf("%d failures, paused until %v: %v", failures, until, err)
				}
			})
		})
	}
}
