package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"go.temporal.io/sdk/client"

	"github.com/runcast/runcast/bench/internal/arm"
	"github.com/runcast/runcast/pkg/strategy"
)

// open makes the strategy of an arm. Stop is never nil.
func open(_ context.Context, c *arm.Config, temporal client.Client, _ *slog.Logger) (s strategy.Strategy, stop func(), err error) {
	stop = func() {}
	switch c.Strategy {
	case arm.None:
		return nil, stop, nil
	case strategy.Poll:
		return strategy.NewPoll(temporal, strategy.PollOptions{}), stop, nil
	case strategy.Adaptive:
		return strategy.NewAdaptive(temporal, strategy.AdaptiveOptions{}), stop, nil
	case strategy.Update:
		return strategy.NewUpdate(temporal, strategy.UpdateOptions{PerWatch: !c.Shared}), stop, nil
	}
	return nil, stop, fmt.Errorf("unknown strategy %q; there are %s, %s", c.Strategy, strings.Join(strategy.Names(), ", "), arm.None)
}
