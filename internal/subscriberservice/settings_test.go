package subscriberservice

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
	if !errors.Is(err, settings.ErrHelp) || !strings.Contains(out.String(), "RUNCAST_SUBSCRIBER_ADDR") {
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
		{"RUNCAST_SUBSCRIBER_ADDR=" + taken.Addr().String(), []string{"--addr", "RUNCAST_SUBSCRIBER_ADDR"}},
		{"RUNCAST_MAX_VIEWERS=-1", []string{"RUNCAST_MAX_VIEWERS"}},
		{"RUNCAST_API_URL=8081", []string{"RUNCAST_API_URL"}},
		{"RUNCAST_ALLOWED_ORIGINS=a.example", []string{"RUNCAST_ALLOWED_ORIGINS"}},
	} {
		t.Run(tt.env, func(t *testing.T) {
			env := settings.Env{"RUNCAST_SUBSCRIBER_ADDR": "127.0.0.1:0"}
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
