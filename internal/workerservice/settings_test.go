package workerservice

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/runcast/runcast/internal/settings"
)

// One file of settings may serve all programs, so each knows the others'
// variables: those of this one must be in the list.
func TestVariablesAreKnownToAll(t *testing.T) {
	names, missing, err := settings.Variables(&Config{})
	if err != nil || len(missing) > 0 || len(names) < 5 {
		t.Errorf("settings lists %v and lacks %v: %v", names, missing, err)
	}
}

func TestHelp(t *testing.T) {
	var out bytes.Buffer
	err := Run(t.Context(), []string{"--help"}, nil, &out, &out)
	if !errors.Is(err, settings.ErrHelp) || !strings.Contains(out.String(), "RUNCAST_WORKER_ADDR") {
		t.Errorf("got %v and\n%s", err, &out)
	}
}

func TestBadSettings(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tt := range []struct {
		env   string
		names []string
	}{
		{"RUNCAST_NO_SUCH=1", []string{"RUNCAST_NO_SUCH"}},
		{"RUNCAST_LOG_LEVEL=loud", []string{"log-level"}},
		{"REDIS_URL=127.0.0.1:6379", []string{"REDIS_URL"}},
		{"RUNCAST_WORKER_ADDR=" + taken.Addr().String(), []string{"--addr", "RUNCAST_WORKER_ADDR"}},
		{"RUNCAST_RECONCILE_EVERY=10ms", []string{"RUNCAST_RECONCILE_EVERY"}},
		{"RUNCAST_TTL_RUNNING=1h RUNCAST_TTL_CLOSED=2h", []string{"RUNCAST_TTL_RUNNING", "RUNCAST_TTL_CLOSED"}},
		{"RUNCAST_MAX_EVENTS=-1", []string{"RUNCAST_MAX_EVENTS"}},
		{"RUNCAST_TIME_ZONE=Sydney", []string{"RUNCAST_TIME_ZONE", "Australia/Sydney"}},
		{"RUNCAST_WORKDAYS=mon,Sunday", []string{"RUNCAST_WORKDAYS", "Sunday", "sun"}},
		{"RUNCAST_KEEP_MESSAGES=1s", []string{"RUNCAST_KEEP_MESSAGES"}},
		{"RUNCAST_KEEP_HOURS=1h", []string{"RUNCAST_KEEP_HOURS"}},
		{"RUNCAST_PAYLOAD_KEYS=secret", []string{"RUNCAST_PAYLOAD_KEYS", "openssl"}},
		{"RUNCAST_MODEL=x", []string{"RUNCAST_MODEL_URL", "RUNCAST_MODEL"}},
		{"RUNCAST_MODEL=x RUNCAST_MODEL_URL=x", []string{"RUNCAST_MODEL_URL"}},
		{"TWILIO_API_KEY=SK1 TWILIO_API_SECRET=x", []string{"TWILIO_ACCOUNT_SID"}},
		{"TWILIO_ACCOUNT_SID=AC1", []string{"TWILIO_AUTH_TOKEN", "TWILIO_API_KEY"}},
		{"RUNCAST_MAX_PRODUCERS=0", []string{"RUNCAST_MAX_PRODUCERS"}},
	} {
		t.Run(tt.env, func(t *testing.T) {
			env := settings.Env{"RUNCAST_WORKER_ADDR": "127.0.0.1:0"}
			for _, pair := range strings.Fields(tt.env) {
				name, value, _ := strings.Cut(pair, "=")
				env[name] = value
			}
			// Settings that are taken run until the context ends.
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			var out bytes.Buffer
			err := Run(ctx, nil, env, &out, &out)
			if err == nil {
				t.Fatal("it ran")
			}
			for _, name := range tt.names {
				if !strings.Contains(err.Error(), name) {
					t.Errorf("%q does not name %s", err, name)
				}
			}
		})
	}
}
