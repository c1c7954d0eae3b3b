package apiservice

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
	if !errors.Is(err, settings.ErrHelp) || !strings.Contains(out.String(), "RUNCAST_API_ADDR") {
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
		{"RUNCAST_API_ADDR=" + taken.Addr().String(), []string{"--addr", "RUNCAST_API_ADDR"}},
		{"RUNCAST_MAX_BODY=0", []string{"--max-body", "RUNCAST_MAX_BODY"}},
		{"RUNCAST_SUBSCRIBER_URL=8080", []string{"RUNCAST_SUBSCRIBER_URL"}},
		{"RUNCAST_TEMPORAL_UI_URL=ftp://x", []string{"RUNCAST_TEMPORAL_UI_URL"}},
		{"RUNCAST_PUBLIC_URL=runcast.example", []string{"RUNCAST_PUBLIC_URL"}},
		{"RUNCAST_TRUSTED_PROXIES=proxy.example", []string{"trusted-proxies", "proxy.example"}},
		{"TWILIO_AUTH_TOKEN=hunter2", []string{"TWILIO_AUTH_TOKEN", "RUNCAST_PUBLIC_URL", "RUNCAST_TRUSTED_PROXIES"}},
		{"RUNCAST_STRATEGY=telepathy", []string{"--strategy", "RUNCAST_STRATEGY", "telepathy", "redis"}},
		{"RUNCAST_STRATEGY={NoWorkflow:redis}", []string{"RUNCAST_STRATEGY", "line 1", "NoWorkflow"}},
		{"RUNCAST_MAX_VIEWERS=-1", []string{"--max-viewers", "RUNCAST_MAX_VIEWERS"}},
		{"RUNCAST_STRATEGY=push", []string{"RUNCAST_STRATEGY", "push", "set RUNCAST_PUSH_SECRETS"}},
		{"RUNCAST_STRATEGY={\"default\":{\"redis\":50,\"signal\":50}}", []string{"signal", "set RUNCAST_PUSH_SECRETS"}},
		{"RUNCAST_MAX_UPSTREAMS=0", []string{"--max-upstreams", "RUNCAST_MAX_UPSTREAMS", "1000"}},
		{"RUNCAST_MAX_UPSTREAMS=-1", []string{"RUNCAST_MAX_UPSTREAMS"}},
		{"RUNCAST_DRAIN=-1s", []string{"--drain", "RUNCAST_DRAIN"}},
		{"RUNCAST_REPLY_WAIT=15s", []string{"RUNCAST_REPLY_WAIT", "14s"}},
		{"RUNCAST_PUSH_SECRETS=hunter2", []string{"RUNCAST_PUSH_SECRETS", "openssl"}},
		{"RUNCAST_PUSH_ALLOW=localhost", []string{"RUNCAST_PUSH_ALLOW", "localhost"}},
		{"RUNCAST_CALLBACK_URL=node1:8081", []string{"RUNCAST_CALLBACK_URL"}},
		{"RUNCAST_ALLOWED_ORIGINS=*,https://a.example", []string{"RUNCAST_ALLOWED_ORIGINS"}},
		{"TEMPORAL_TLS=true TEMPORAL_TLS_CLIENT_CERT_PATH=/no/such.pem TEMPORAL_TLS_CLIENT_KEY_PATH=/no/such.key", []string{"/no/such"}},
	} {
		t.Run(tt.env, func(t *testing.T) {
			env := settings.Env{"RUNCAST_API_ADDR": "127.0.0.1:0"}
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
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is in %q", err)
			}
			for _, name := range tt.names {
				if !strings.Contains(err.Error(), name) {
					t.Errorf("%q does not name %s", err, name)
				}
			}
		})
	}
}
