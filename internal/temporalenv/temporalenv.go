// Package temporalenv makes Temporal client options from the environment:
// TEMPORAL_* variables and Temporal's own file of profiles.
package temporalenv

import (
	"context"
	"fmt"
	"log/slog"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/log"
	"google.golang.org/grpc"

	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/pkg/payloadcodec"
)

// Load returns the options that env asks for; without any, those of a server
// on this machine and the namespace "default". With keys, what Temporal keeps
// of runs is encrypted.
func Load(env settings.Env, payloads settings.Payloads, logger *slog.Logger) (client.Options, error) {
	o, err := envconfig.LoadClientOptions(envconfig.LoadClientOptionsRequest{EnvLookup: env})
	if err != nil {
		return client.Options{}, fmt.Errorf("read the TEMPORAL_ settings: %w", err)
	}
	if o.HostPort == "" {
		o.HostPort = client.DefaultHostPort
	}
	if o.Namespace == "" {
		o.Namespace = client.DefaultNamespace
	}
	o.Logger = log.NewStructuredLogger(slog.New(quietHandler{logger.Handler()}))
	o.ConnectionOptions.DialOptions = append(o.ConnectionOptions.DialOptions, grpc.WithChainUnaryInterceptor(asciiHeaders))
	if payloads.Keys != "" {
		codec, err := payloadcodec.New(payloads.Keys)
		if err != nil {
			return client.Options{}, fmt.Errorf("--payload-keys (RUNCAST_PAYLOAD_KEYS): %w", err)
		}
		o.DataConverter, o.FailureConverter = codec.Converter(), codec.Failures()
	}
	return o, nil
}

// quietHandler keeps from the log what the SDK says about its own goings-on:
// from warnings on it is worth a line. What an activity returns is the
// application's business, and shows as progress; it is no trouble of the
// program's.
type quietHandler struct{ slog.Handler }

func (h quietHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}

func (h quietHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == activityFailed {
		r.Level = slog.LevelDebug
		if !h.Handler.Enabled(ctx, r.Level) {
			return nil
		}
	}
	return h.Handler.Handle(ctx, r)
}

// activityFailed is how the SDK says that an activity returned an error.
const activityFailed = "Activity error."

func (h quietHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quietHandler{h.Handler.WithAttrs(attrs)}
}

func (h quietHandler) WithGroup(name string) slog.Handler {
	return quietHandler{h.Handler.WithGroup(name)}
}
