package main

import (
	"errors"

	"github.com/runcast/runcast/cmd/dev/internal/dynamic"
	"github.com/runcast/runcast/internal/settings"
)

const about = `All of Runcast in one process: the subscriber, the API and a worker, on an embedded Temporal server and an embedded Redis.

With TEMPORAL_ADDRESS set it uses that Temporal server instead, with REDIS_URL that Redis. The programs' own RUNCAST_ variables work here too. "dev temporal" runs the Temporal server alone.`

// config is the command line. A port of 0 takes a free one.
type config struct {
	SubscriberAddr string         `name:"subscriber-addr" default:"127.0.0.1:8080" help:"Where the page and the streams are."`
	APIAddr        string         `name:"api-addr" default:"127.0.0.1:8081" help:"Where runs are started."`
	WorkerAddr     string         `name:"worker-addr" default:"127.0.0.1:8082" help:"Where the worker's health and metrics are."`
	TemporalAddr   string         `name:"temporal-addr" default:"127.0.0.1:7233" help:"Where the embedded Temporal server listens."`
	Dynamic        dynamic.Values `name:"dynamic-config-value" placeholder:"KEY=VALUE" sep:"none" help:"A setting of the embedded Temporal server's dynamic configuration, with a value in JSON, such as frontend.namespaceRPS=100. May be given several times."`
	TemporalUIAddr string         `name:"temporal-ui-addr" default:"127.0.0.1:8233" help:"Where Temporal's web UI is. Empty: nowhere."`
	RedisAddr      string         `name:"redis-addr" default:"127.0.0.1:6380" help:"Where the embedded Redis listens."`
	Demo           bool           `name:"demo" default:"true" negatable:"" help:"Start a few demo runs, and a new one now and then."`
	Log            settings.Log   `embed:""`
}

// checkFlags reports settings that contradict the environment. temporal says that
// the Temporal server is the embedded one.
func (c *config) checkFlags(temporal bool) error {
	if len(c.Dynamic) > 0 && !temporal {
		return errors.New("--dynamic-config-value is for the embedded Temporal server, and TEMPORAL_ADDRESS names another one: leave one of them out")
	}
	return nil
}

// addrs are the addresses that this process is to listen on, by flag.
func (c *config) addrs(temporal, redis bool) map[string]*string {
	addrs := map[string]*string{
		"--subscriber-addr": &c.SubscriberAddr,
		"--api-addr":        &c.APIAddr,
		"--worker-addr":     &c.WorkerAddr,
	}
	if temporal {
		addrs["--temporal-addr"] = &c.TemporalAddr
	}
	if redis {
		addrs["--redis-addr"] = &c.RedisAddr
	}
	if temporal && c.TemporalUIAddr != "" {
		addrs["--temporal-ui-addr"] = &c.TemporalUIAddr
	}
	return addrs
}
