package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/sdk/client"

	"github.com/runcast/runcast/bench/internal/arm"
	"github.com/runcast/runcast/bench/internal/machine"
	"github.com/runcast/runcast/internal/apiservice"
	"github.com/runcast/runcast/internal/choice"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/strategy"
	"github.com/runcast/runcast/subscriber"
	"github.com/runcast/runcast/subscriber/strategies"
)

// stopWithin bounds how long the service takes to stop: its viewers are gone.
const stopWithin = 5 * time.Second

// openServed serves the strategy of an arm as the API service does, and has
// viewers in a process of their own watch by its streams. Stop is never nil.
func openServed(ctx context.Context, c *arm.Config, temporal client.Client, watch string, logger *slog.Logger) (follow arm.Follow, stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, f := range slices.Backward(stops) {
			f()
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, stop, fmt.Errorf("listen for viewers: %w", err)
	}
	mux := http.NewServeMux()
	receiver, err := receive(l, mux)
	if err != nil {
		return nil, stop, errors.Join(err, l.Close())
	}
	o := strategies.Options{
		Rules: choice.Fixed(c.Strategy), Config: subscriber.Config{OpenWait: apiservice.OpenWait},
		Registerer: prometheus.NewRegistry(), Logger: logger,
	}
	ways, names := apiservice.Ways(temporal, client.Options{}, receiver)
	at := slices.IndexFunc(ways, func(w strategies.Way) bool { return w.Name == c.Strategy })
	if at < 0 {
		return nil, stop, errors.Join(fmt.Errorf("unknown strategy %q; there are %s, %s", c.Strategy, strings.Join(names, ", "), arm.None), l.Close())
	}
	o.Ways = ways[at : at+1]
	if c.Strategy == strategy.Redis {
		if o.Store, err = redisstore.Open(ctx, "redis://"+c.Redis, redisstore.Options{}); err != nil {
			return nil, stop, errors.Join(err, l.Close())
		}
		stops = append(stops, func() { _ = o.Store.Close() }) // the measurement is over
	}
	service, err := strategies.New(o)
	if err != nil {
		return nil, stop, errors.Join(err, l.Close())
	}
	service.Start()
	stops = append(stops, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
		defer cancel()
		_ = service.Stop(ctx) // as above
	})
	const below = "/v1/strategies"
	mux.Handle(below+"/", http.StripPrefix(below, service.Handler()))
	stops = append(stops, serve(l, mux))
	return watchers(watch, l.Addr().String(), c.Strategy), stop, nil
}

// serve serves until stop is called.
func serve(l net.Listener, h http.Handler) (stop func()) {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	return func() {
		_ = s.Close() // the measurement is over
		<-served
	}
}

// watchers has viewers watch in a process of their own, the program watch.
func watchers(program, server, strategy string) arm.Follow {
	return func(ctx context.Context, runs []string, viewers []*arm.Viewer, spread time.Duration) error {
		in, err := json.Marshal(arm.Audience{Runs: runs, Viewers: viewers})
		if err != nil {
			return err
		}
		within := time.Minute
		if deadline, ok := ctx.Deadline(); ok {
			within = time.Until(deadline)
		}
		// It ends by itself, and says what it has seen until then.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), within+stopWithin)
		defer cancel()
		wait, err := machine.Begin(ctx, machine.AnyCore, bytes.NewReader(in), program,
			"-server", server, "-strategy", strategy, "-spread", spread.String(), "-within", within.String())
		if err != nil {
			return err
		}
		out, err := wait()
		if err != nil {
			return err
		}
		var seen []*arm.Viewer
		if err := json.Unmarshal(out, &seen); err != nil {
			return fmt.Errorf("read what viewers saw: %w", err)
		}
		if len(seen) != len(viewers) {
			return fmt.Errorf("%d of %d viewers say what they saw", len(seen), len(viewers))
		}
		for i, v := range seen {
			if len(v.Seen) != len(viewers[i].Seen) || v.Run != viewers[i].Run {
				return fmt.Errorf("viewer %d says what another one saw", i)
			}
			*viewers[i] = *v
		}
		return nil
	}
}
