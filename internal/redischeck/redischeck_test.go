package redischeck_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runcast/runcast/internal/redischeck"
	"github.com/runcast/runcast/pkg/progress"
)

// answers are given one after the other; the last one for ever.
type answers []error

func (a *answers) CheckServer(context.Context) error {
	err := (*a)[0]
	if len(*a) > 1 {
		*a = (*a)[1:]
	}
	return err
}

func TestStart(t *testing.T) {
	away, wrong := progress.ErrUnavailable, errors.New("maxmemory-policy is allkeys-lru")
	for _, tt := range []struct {
		name    string
		answers answers
		wrong   bool
		logged  int
	}{
		{"there", answers{nil}, false, 0},
		{"there later", answers{away, away, nil}, false, 1},
		{"never there", answers{away}, false, 10},
		{"wrong", answers{wrong}, true, 0},
		{"wrong later", answers{away, wrong}, true, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				ctx, stop := redischeck.Start(t.Context(), &tt.answers, slog.New(slog.NewTextHandler(&log, nil)))
				time.Sleep(10*time.Minute - time.Second)
				err := redischeck.Cause(ctx)
				if tt.wrong != errors.Is(err, wrong) || !tt.wrong && (err != nil || ctx.Err() != nil) {
					t.Errorf("cause %v", err)
				}
				stop()
				if got := strings.Count(log.String(), "\n"); got != tt.logged {
					t.Errorf("%d lines logged, want %d:\n%s", got, tt.logged, &log)
				}
				if ctx.Err() == nil {
					t.Error("stop did not end the context")
				}
			})
		})
	}
}
