package apiservice

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/sdk/client"

	"github.com/runcast/runcast/internal/choice"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/strategy"
	"github.com/runcast/runcast/subscriber"
	"github.com/runcast/runcast/subscriber/follow"
	"github.com/runcast/runcast/subscriber/hub"
	"github.com/runcast/runcast/subscriber/strategies"
	"github.com/runcast/runcast/workflows"
)

// followers returns the strategies that follow a workflow by themselves, by
// name. Redis is not among them: its streams are the store's. Signal and push
// need a receiver, nil where there is no secret to verify with.
func followers(temporal client.Client, o client.Options, receiver *strategy.Receiver) map[string]strategy.Strategy {
	calls := strategy.CallOptions{Namespace: o.Namespace, DataConverter: o.DataConverter}
	list := map[string]strategy.Strategy{
		strategy.Poll:     strategy.NewPoll(temporal, strategy.PollOptions{CallOptions: calls}),
		strategy.Adaptive: strategy.NewAdaptive(temporal, strategy.AdaptiveOptions{CallOptions: calls}),
		strategy.Update:   strategy.NewUpdate(temporal, strategy.UpdateOptions{CallOptions: calls}),
	}
	if receiver != nil {
		list[strategy.Signal] = strategy.NewSignal(temporal, receiver, strategy.SubscribeOptions{CallOptions: calls})
		list[strategy.Push] = strategy.NewPush(temporal, receiver, strategy.SubscribeOptions{CallOptions: calls})
	}
	return list
}

// about says of each strategy how it follows a workflow.
var about = map[string]string{
	strategy.Poll:     "Asks Temporal every half second how the run is, and its worker how far.",
	strategy.Adaptive: "Asks as poll does, soon after a change and ever less often while nothing changes.",
	strategy.Update:   "Waits in the workflow, by a Temporal Update, until there is something new.",
	strategy.Signal:   "Subscribes with the workflow by a signal, is notified of changes, and asks only then.",
	strategy.Push:     "Has the workflow post its progress to a webhook of this service.",
	strategy.Redis:    "Reads what workers wrote to Redis: every event in order, resumed without loss, at no cost to Temporal.",
}

// noSecrets is why runs can tell this service nothing.
const noSecrets = "what runs send cannot be verified without a secret; set RUNCAST_PUSH_SECRETS on API and workers"

// strategies returns the service that serves all ways to follow a workflow.
func (c *Config) strategies(temporal client.Client, o client.Options, receiver *strategy.Receiver, store *redisstore.Store, registry *prometheus.Registry, logger *slog.Logger) (*strategies.Service, error) {
	describer := newDescriber(temporal.WorkflowService(), o.Namespace)
	ways, names := ways(followers(temporal, o, receiver), describer.find)
	missing := make(map[string]string)
	if receiver == nil {
		missing[strategy.Signal], missing[strategy.Push] = noSecrets, noSecrets
	}
	rules, err := choice.Load(c.Strategy, choice.Known{Strategies: names, Types: workflows.Types(), Missing: missing})
	if err != nil {
		return nil, fmt.Errorf("--strategy (RUNCAST_STRATEGY): %w", err)
	}
	return strategies.New(strategies.Options{
		Ways: ways, Missing: missing, Store: store, Rules: rules, TypeOf: describer.typeOf(store),
		Config: subscriber.Config{
			AllowedOrigins: c.AllowedOrigins, MaxViewers: c.MaxViewers, Drain: c.Drain, OpenWait: OpenWait, Linger: c.Linger,
		},
		MaxUpstreams: c.MaxUpstreams, Registerer: registry, Logger: logger,
	})
}

// OpenWait is above what a strategy waits for a worker, or for a first message:
// until then it is not known whether the workflow can be followed.
const OpenWait = 5 * time.Second

// Ways returns the strategies as they are served, in their order, and their
// names, of which the first is what is chosen where nothing says otherwise. The
// options are those of the client. Without a receiver there is no signal and no
// push.
func Ways(temporal client.Client, o client.Options, receiver *strategy.Receiver) (list []strategies.Way, names []string) {
	return ways(followers(temporal, o, receiver), newDescriber(temporal.WorkflowService(), o.Namespace).find)
}

// ways makes them of strategies by name. Find is for redis; see
// [strategies.Way].
func ways(followers map[string]strategy.Strategy, find func(context.Context, string) error) (list []strategies.Way, names []string) {
	names = []string{strategy.Redis}
	for _, name := range strategy.Names() {
		way := strategies.Way{Name: name, About: about[name]}
		if name != strategy.Redis {
			f := followers[name]
			if f == nil {
				continue
			}
			way.Watcher = watcher{f, name}
			names = append(names, name)
		} else {
			way.Find = find
		}
		list = append(list, way)
	}
	return list, names
}

// watcher is a strategy in the words of those who serve it, who know nothing
// of Temporal.
type watcher struct {
	strategy.Strategy
	name string
}

func (w watcher) Watch(ctx context.Context, id string, after progress.Position) iter.Seq2[progress.Event, error] {
	return func(yield func(progress.Event, error) bool) {
		for e, err := range w.Strategy.Watch(calledBy(ctx, w.name), id, after) {
			if !yield(e, translate(err)) {
				return
			}
		}
	}
}

func translate(err error) error {
	var notice *strategy.Notice
	switch {
	case err == nil:
		return nil
	case errors.As(err, &notice):
		return &follow.Notice{Notice: hub.Notice{Kind: hub.Reason(notice.Kind), Since: notice.Since, Detail: notice.Reason}, Cause: notice.Cause}
	case errors.Is(err, strategy.ErrNoHandlers), errors.Is(err, progress.ErrInvalid):
		return follow.Refuse(err)
	}
	return err
}
