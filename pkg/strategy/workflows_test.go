package strategy_test

import (
	"errors"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/reporter"
)

// testWorkflows are those of the suite's workers, by type. None of them does
// anything to be followed, but for what it reports.
var testWorkflows = map[string]any{
	"Commanded": commanded,
	"QueryOnly": queryOnly,
	"ByHand":    byHand,
	"Limited":   limited,
	"Canceled":  canceled,
	"Timed":     timed,
}

// command tells a workflow, by the signal "do", what to do next.
type command struct {
	Count  int64
	Return string // "complete", "fail", "continue" or "advised"; empty: go on
	Settle bool   // wait for the run's own updates first
}

// commanded does what it is told.
func commanded(ctx workflow.Context) error {
	c := workflow.GetSignalChannel(ctx, "do")
	for {
		var do command
		c.Receive(ctx, &do)
		switch do.Return {
		case "complete":
			return nil
		case "fail":
			return errors.New("the oven is cold")
		case "continue":
			return workflow.NewContinueAsNewError(ctx, "Commanded")
		}
		reporter.Workflow(ctx).Count(do.Count, 100)
	}
}

// timed counts as it is told, with a timer each time that goes off by the end
// only.
func timed(ctx workflow.Context) error {
	c := workflow.GetSignalChannel(ctx, "do")
	for {
		var do command
		if c.Receive(ctx, &do); do.Return != "" {
			return nil
		}
		workflow.NewTimer(ctx, time.Hour)
		reporter.Workflow(ctx).Count(do.Count, 100)
	}
}

// canceled counts one, and ends when it is canceled.
func canceled(ctx workflow.Context) error {
	reporter.Workflow(ctx).Count(1, 100)
	return workflow.Sleep(ctx, time.Hour)
}

// limited does what it is told, with the plugin's handlers replaced by others
// with bounds of their own. It has an update of its own, "own", which ends at
// once, or with true by the signal "release".
func limited(ctx workflow.Context, o handlers.Options) error {
	h, err := handlers.Install(handlers.NewContext(ctx, nil), o)
	if err != nil {
		return err
	}
	err = workflow.SetUpdateHandler(ctx, "own", func(ctx workflow.Context, hold bool) error {
		if hold {
			workflow.GetSignalChannel(ctx, "release").Receive(ctx, nil)
		}
		return nil
	})
	if err != nil {
		return err
	}
	c := workflow.GetSignalChannel(ctx, "do")
	for {
		var do command
		c.Receive(ctx, &do)
		if do.Settle {
			if err := handlers.AwaitAllFinished(handlers.NewContext(ctx, h)); err != nil {
				return err
			}
		}
		var end error
		switch do.Return {
		case "complete":
		case "advised": // only then
			advised := func() bool { return h.ContinueAsNewAdvised(ctx) }
			if ok, err := workflow.AwaitWithTimeout(ctx, within/3, advised); err != nil || !ok {
				end = errors.New("nobody has advised it")
				break
			}
			fallthrough
		case "continue":
			end = workflow.NewContinueAsNewError(ctx, "Limited", o)
		default:
			h.Change(ctx, func(s *handlers.State) { s.Current = &do.Count })
			continue
		}
		h.Finish(ctx, handlers.StatusOf(end))
		return end
	}
}

// queryOnly answers the query and nothing else, as an old worker might.
func queryOnly(ctx workflow.Context) error {
	err := workflow.SetQueryHandler(ctx, handlers.Query, func() (handlers.State, error) {
		return handlers.State{Started: 1, Version: 1, Time: time.Unix(1, 0), RunID: workflow.GetInfo(ctx).WorkflowExecution.RunID}, nil
	})
	if err != nil {
		return err
	}
	workflow.GetSignalChannel(ctx, "do").Receive(ctx, nil)
	return nil
}

// byHand embeds the handlers itself.
func byHand(ctx workflow.Context) (err error) {
	h, err := handlers.Install(ctx, handlers.Options{Tags: []string{"bread"}})
	if err != nil {
		return err
	}
	var do command
	workflow.GetSignalChannel(ctx, "do").Receive(ctx, &do)
	h.Change(ctx, func(s *handlers.State) { s.Current = &do.Count })
	workflow.GetSignalChannel(ctx, "do").Receive(ctx, nil)
	h.Finish(ctx, handlers.StatusOf(nil))
	return nil
}
