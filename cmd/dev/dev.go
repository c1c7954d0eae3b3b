package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"time"

	"github.com/runcast/runcast/cmd/dev/internal/embedded"
	"github.com/runcast/runcast/cmd/dev/internal/parts"
	"github.com/runcast/runcast/cmd/dev/internal/ports"
	"github.com/runcast/runcast/internal/apiservice"
	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/internal/subscriberservice"
	"github.com/runcast/runcast/internal/workerservice"
)

const (
	// startWithin bounds how long everything may take until it is ready.
	startWithin = time.Minute
	// stopWithin bounds how long an orderly stop may take, all of it; what
	// then still runs ends with the process.
	stopWithin = 9 * time.Second
)

// dev is one running instance.
type dev struct {
	config
	env    settings.Env
	logger *slog.Logger
	out    io.Writer

	ready parts.Readiness
	group parts.Group
	// embeddedRedis says that the Redis is this process's own.
	embeddedRedis bool
	// ui is where Temporal's web UI is; "" is nowhere.
	ui string
}

// run starts everything, says where it is, and stops it when ctx ends or one
// part of it fails. Parts stop in the reverse order: what uses a server stops
// before it.
func (d *dev) run(ctx context.Context) error {
	temporal, redis := d.env["TEMPORAL_ADDRESS"] == "", d.env["REDIS_URL"] == ""
	if err := d.checkFlags(temporal); err != nil {
		return err
	}
	if err := ports.Claim(d.addrs(temporal, redis)); err != nil {
		return err
	}
	if !redis {
		// Before anything starts: it may be misspelt, or not there yet.
		if err := awaitRedis(ctx, d.env["REDIS_URL"], d.out); ctx.Err() != nil {
			return nil // told to stop while it waited
		} else if err != nil {
			return err
		}
	}
	d.env = maps.Clone(d.env)
	err := d.start(ctx, temporal, redis)
	if err == nil {
		d.announce(temporal, redis)
		if d.Demo {
			d.group.Go("demo", d.demo)
		}
		select {
		case <-ctx.Done():
		case <-d.group.Failed():
		}
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	err = errors.Join(err, d.group.Stop(stopCtx))
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // told to stop while it was still starting
	}
	return err
}

// start returns once all parts are ready.
func (d *dev) start(ctx context.Context, temporal, redis bool) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	if redis {
		server, err := embedded.StartRedis(d.RedisAddr)
		if err != nil {
			return err
		}
		d.RedisAddr, d.embeddedRedis = server.Addr, true
		d.env["REDIS_URL"] = "redis://" + server.Addr
		d.group.Add("Redis", func(context.Context) error { server.Stop(); return nil })
	}
	if temporal {
		server, err := embedded.StartTemporal(ctx, d.TemporalAddr, d.logger, embedded.WithDynamicConfig(d.Dynamic))
		if err != nil {
			return err
		}
		d.TemporalAddr = server.Addr
		d.env["TEMPORAL_ADDRESS"] = server.Addr
		d.group.Add("Temporal", server.Stop)
	}
	if temporal && d.TemporalUIAddr != "" {
		if err := d.startUI(); err != nil {
			return err
		}
	}
	if err := d.startServices(); err != nil {
		return err
	}
	return d.ready.Wait(ctx, d.group.Failed())
}

// startServices starts the programs as their own commands would, with this
// one's addresses; their other settings come from the environment.
func (d *dev) startServices() error {
	var (
		w workerservice.Config
		a apiservice.Config
		s subscriberservice.Config
	)
	// The page may start runs: it calls the API from its own origin.
	if d.env["RUNCAST_ALLOWED_ORIGINS"] == "" {
		d.env["RUNCAST_ALLOWED_ORIGINS"] = pageOrigins(d.SubscriberAddr)
	}
	// What is typed into the page here is to be seen there.
	if d.env["RUNCAST_SHOW_TEXT"] == "" {
		d.env["RUNCAST_SHOW_TEXT"] = "true"
	}
	// Webhooks may go to programs on this machine, and nobody has to make up a
	// secret for that.
	if d.env["RUNCAST_PUSH_ALLOW"] == "" {
		d.env["RUNCAST_PUSH_ALLOW"] = "127.0.0.0/8,::1"
	}
	if d.env["RUNCAST_PUSH_SECRETS"] == "" {
		d.env["RUNCAST_PUSH_SECRETS"] = randomSecret()
	}
	ui := d.env["RUNCAST_TEMPORAL_UI_URL"]
	if ui == "" {
		ui = d.ui
	}
	err := errors.Join(
		settings.Parse("worker", "", &w, []string{"--addr", d.WorkerAddr}, d.env, io.Discard),
		settings.Parse("subscriber", "", &s, []string{"--addr", d.SubscriberAddr, "--api-url", "http://" + d.APIAddr}, d.env, io.Discard),
		settings.Parse("api", "", &a, []string{
			"--addr", d.APIAddr, "--subscriber-url", "http://" + d.SubscriberAddr, "--temporal-ui-url", ui,
		}, d.env, io.Discard),
	)
	if err != nil {
		return err
	}
	w.TrustRedis, s.TrustRedis = d.embeddedRedis, d.embeddedRedis
	working, answering, streaming := d.ready.Expect("worker"), d.ready.Expect("api"), d.ready.Expect("subscriber")
	d.group.Go("worker", func(ctx context.Context) error {
		return workerservice.Serve(ctx, w, d.env, d.logger, working)
	})
	d.group.Go("api", func(ctx context.Context) error {
		return apiservice.Serve(ctx, a, d.env, d.logger, answering)
	})
	d.group.Go("subscriber", func(ctx context.Context) error {
		return subscriberservice.Serve(ctx, s, d.logger, subscriberservice.Hooks{Started: streaming, Ready: d.check})
	})
	return nil
}

// randomSecret signs the webhooks of this process's runs.
func randomSecret() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // it never fails
	return "whsec_" + base64.StdEncoding.EncodeToString(raw)
}

// pageOrigins are the names under which a browser on this machine may have
// loaded the page.
func pageOrigins(addr string) string {
	origins := "http://" + addr
	if host, port, err := net.SplitHostPort(addr); err == nil && host == "127.0.0.1" {
		origins += ",http://localhost:" + port
	}
	return origins
}
