package main

import (
	"context"
	"fmt"
	"strings"

	"go.temporal.io/sdk/client"

	"github.com/runcast/runcast/bench/internal/arm"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/strategy"
)

// open makes the strategy of an arm whose viewers do not share, through its
// constructor and with its defaults. Stop is never nil.
func open(ctx context.Context, c *arm.Config, temporal client.Client) (s strategy.Strategy, stop func(), err error) {
	stop = func() {}
	switch c.Strategy {
	case strategy.Poll:
		return strategy.NewPoll(temporal, strategy.PollOptions{}), stop, nil
	case strategy.Adaptive:
		return strategy.NewAdaptive(temporal, strategy.AdaptiveOptions{}), stop, nil
	case strategy.Update:
		// Watches of one run share its updates unless that is turned off.
		return strategy.NewUpdate(temporal, strategy.UpdateOptions{PerWatch: true}), stop, nil
	case strategy.Signal, strategy.Push:
		return openSubscribing(c, temporal)
	case strategy.Redis:
		return openRedis(ctx, c, temporal)
	}
	return nil, stop, fmt.Errorf("unknown strategy %q; there are %s, %s", c.Strategy, strings.Join(strategy.Names(), ", "), arm.None)
}

func openRedis(ctx context.Context, c *arm.Config, temporal client.Client) (strategy.Strategy, func(), error) {
	store, err := redisstore.Open(ctx, "redis://"+c.Redis, redisstore.Options{})
	if err != nil {
		return nil, func() {}, err
	}
	p := strategy.NewRedis(store, strategy.RedisOptions{Temporal: temporal})
	return p, func() {
		p.Close()
		_ = store.Close() // the measurement is over
	}, nil
}
