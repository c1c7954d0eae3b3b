package subscriber

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/runcast/runcast/internal/httpserve"
	"github.com/runcast/runcast/internal/settings"
)

// Config are the settings of the service, as flags and environment variables.
// The zero value of a bound means its default.
type Config struct {
	Addr           string           `name:"addr" from:"RUNCAST_SUBSCRIBER_ADDR" default:"127.0.0.1:8080" help:"Address to listen on."`
	TLS            settings.TLS     `embed:""`
	Redis          settings.Redis   `embed:""`
	AllowedOrigins settings.Origins `name:"allowed-origins" from:"RUNCAST_ALLOWED_ORIGINS" help:"Web origins whose pages may connect, beside the service's own; * is all of them."`
	MaxViewers     int              `name:"max-viewers" from:"RUNCAST_MAX_VIEWERS" default:"10000" help:"Most open streams at a time; beyond that a request is answered 503 at once."`
	MaxTopics      int              `name:"max-topics" from:"RUNCAST_MAX_TOPICS" default:"64" help:"Most topics that one connection follows."`
	Drain          time.Duration    `name:"drain" from:"RUNCAST_DRAIN" default:"5s" help:"How long clients are spread over when they reconnect after this node stops."`

	// What follows has no flag: operators have no reason to change it, tests
	// do. Zero means the default.

	// WriteDeadline is how long a viewer's socket may take nothing; 10 s.
	WriteDeadline time.Duration `kong:"-"`
	// Retry is how long a client waits before it reconnects; 1 s.
	Retry time.Duration `kong:"-"`
	// OpenWait is how long a request with a position waits for the store, to
	// be told that it has everything already; 2 s.
	OpenWait time.Duration `kong:"-"`
	// Linger, CompareEvery, HeartbeatEvery and RelistEvery are the hub's.
	Linger         time.Duration `kong:"-"`
	CompareEvery   time.Duration `kong:"-"`
	HeartbeatEvery time.Duration `kong:"-"`
	RelistEvery    time.Duration `kong:"-"`
	// RingLen is how many events of a workflow a node holds.
	RingLen int `kong:"-"`
}

func (c *Config) setDefaults() {
	def(&c.MaxViewers, 10_000)
	def(&c.MaxTopics, 64)
	def(&c.Drain, 5*time.Second)
	def(&c.WriteDeadline, 10*time.Second)
	def(&c.Retry, time.Second)
	def(&c.OpenWait, 2*time.Second)
}

func def[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

// Validate reports settings that make no sense. It names flag and variable.
func (c *Config) Validate() error {
	switch {
	case c.MaxViewers < 0:
		return fmt.Errorf("--max-viewers (RUNCAST_MAX_VIEWERS): %d is negative", c.MaxViewers)
	case c.MaxTopics < 0:
		return fmt.Errorf("--max-topics (RUNCAST_MAX_TOPICS): %d is negative", c.MaxTopics)
	case c.Drain < 0:
		return fmt.Errorf("--drain (RUNCAST_DRAIN): %s is negative", c.Drain)
	}
	return errors.Join(c.TLS.Validate(), c.AllowedOrigins.Validate())
}

// LoadTLS returns what a server answers with: nil, nil for plain HTTP. The
// error of a file that is no good names flags and variables.
func (c *Config) LoadTLS(logger *slog.Logger) (*tls.Config, error) {
	if c.TLS.Cert == "" {
		return nil, nil
	}
	t, err := httpserve.TLS(c.TLS.Cert, c.TLS.Key, logger)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert (RUNCAST_TLS_CERT), --tls-key (RUNCAST_TLS_KEY): %w", err)
	}
	return t, nil
}
