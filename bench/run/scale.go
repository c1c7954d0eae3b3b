package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/runcast/runcast/bench/internal/machine"
	"github.com/runcast/runcast/bench/internal/report"
	"github.com/runcast/runcast/bench/internal/trial"
	"github.com/runcast/runcast/bench/internal/viewers"
)

// scale measures what docs/scaling.md needs: how a node grows with its
// viewers and topics, and Redis with the nodes. Nothing of it has a budget.
func scale(ctx context.Context, b *bench) error {
	for _, part := range []func(context.Context, *bench) error{scaleViewers, scaleSecure, scaleTopics, scaleNodes} {
		if err := part(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// perEvent is Redis' time for each event, in µs.
func perEvent(p *trial.PhaseResult, topics int) float64 {
	return p.RedisCPUSeconds * 1e6 / float64(max(p.Published*int64(topics), 1))
}

// sized adds what a trial of one size found.
func (b *bench) sized(what string, res *trial.Result) {
	p := &res.Phases[0]
	b.row(report.Row{
		What: what + ": CPU per delivery", Unit: "µs", Subscriber: report.Value(p.CPUPerDelivery),
		Note: fmt.Sprintf("%.0f deliveries/s, p99 %.1f ms; Redis %.0f µs an event; %s",
			float64(p.Delivered)/p.Seconds, p.Latency.P99, perEvent(p, res.Topics), p.Saturated()),
	})
	b.row(report.Row{
		What: "  resident per viewer", Unit: "KiB", Subscriber: report.Value(res.Memory.PerViewer / 1024),
		Note: fmt.Sprintf("%.1f MiB in all; attached in %.2f s", float64(res.Memory.After)/(1<<20), res.Attach.Seconds),
	})
	if n := p.Failures(); n > 0 {
		b.row(report.Row{What: "  lost, late, doubled, closed", Subscriber: report.Value(float64(n)), Check: none(n, "")})
	}
}

func scaleViewers(ctx context.Context, b *bench) error {
	for _, ws := range []bool{false, true} {
		for _, n := range pick(b, []int{10, 100, 1000, 5000, 10_000, 19_000}, []int{10, 200}) {
			res, err := b.try(ctx, subscriber, 0, trial.Config{
				WebSocket: ws, Viewers: n, Settle: pick(b, 2*time.Second, 100*time.Millisecond),
				Phases: []trial.Phase{{Rate: min(80, 40_000/float64(n)), For: pick(b, 3*time.Second, 500*time.Millisecond)}},
			})
			if err != nil {
				return fmt.Errorf("%d viewers, %s: %w", n, transport(ws), err)
			}
			b.sized(fmt.Sprintf("%d viewers, %s", n, transport(ws)), res)
		}
	}
	return nil
}

func scaleSecure(ctx context.Context, b *bench) error {
	n := pick(b, 2000, 100)
	for _, way := range []struct {
		name   string
		secure viewers.Secure
		ws     bool
	}{{"SSE over TLS", viewers.TLS, false}, {"WebSocket over TLS", viewers.TLS, true}, {"SSE over HTTP/2", viewers.HTTP2, false}} {
		res, err := b.try(ctx, subscriber, 0, trial.Config{
			WebSocket: way.ws, Secure: way.secure, Viewers: n, Settle: pick(b, 2*time.Second, 100*time.Millisecond),
			Phases: []trial.Phase{{Rate: 10, For: pick(b, 3*time.Second, 500*time.Millisecond)}},
		})
		if err != nil {
			return fmt.Errorf("%s: %w", way.name, err)
		}
		b.sized(fmt.Sprintf("%d viewers, %s", n, way.name), res)
	}
	return nil
}

// scaleTopics shares the same viewers and deliveries among more and more
// topics: the cost of an event is what grows.
func scaleTopics(ctx context.Context, b *bench) error {
	n := pick(b, 10_000, 100)
	for _, topics := range pick(b, []int{1, 10, 100, 1000, 10_000}, []int{1, 50}) {
		// The load's core is Redis' too: 10,000 topics have an event each, as
		// fast as that goes.
		res, err := b.try(ctx, subscriber, 0, trial.Config{
			Viewers: n, Topics: topics, Settle: pick(b, 2*time.Second, 100*time.Millisecond),
			Phases: []trial.Phase{{Rate: min(3, 3000/float64(topics)), For: pick(b, 4*time.Second, 500*time.Millisecond)}},
		})
		if err != nil {
			return fmt.Errorf("%d topics: %w", topics, err)
		}
		b.sized(fmt.Sprintf("%d topics x %d viewers", topics, n/topics), res)
	}
	return nil
}

// scaleNodes has more and more nodes follow a topic: what a published event
// costs Redis.
func scaleNodes(ctx context.Context, b *bench) error {
	for _, nodes := range []int{1, 2, 4} {
		if err := b.nodes(ctx, nodes); err != nil {
			return fmt.Errorf("%d nodes: %w", nodes, err)
		}
	}
	return nil
}

// nodes measures the first of some nodes, which all follow the topic.
func (b *bench) nodes(ctx context.Context, n int) error {
	first, err := b.serve(ctx, subscriber, false)
	if err != nil {
		return err
	}
	defer first.Stop()
	for range n - 1 {
		s, err := b.node(ctx, subscriber, false)
		if err != nil {
			return err
		}
		defer s.Stop()
		viewer, err := machine.Get(ctx, s.url+"/v1/workflows/"+trial.Workflow(0)+"/stream")
		if err != nil {
			return err
		}
		defer viewer.Close()
		read := make(chan struct{})
		go func() { // ends with the node
			defer close(read)
			_, _ = io.Copy(io.Discard, viewer) // until the node is stopped
		}()
		defer func() { s.Stop(); <-read }()
	}
	res, err := b.load(ctx, first, 0, trial.Config{
		Viewers: 10, Phases: []trial.Phase{{Rate: 500, For: pick(b, 4*time.Second, 300*time.Millisecond)}},
	})
	if err != nil {
		return err
	}
	p := &res.Phases[0]
	b.row(report.Row{
		What: fmt.Sprintf("%d nodes follow a workflow: Redis, an event", n), Unit: "µs", Subscriber: report.Value(perEvent(p, 1)),
		Note: fmt.Sprintf("%.0f events/s; p99 %.1f ms; %s", p.Actual, p.Latency.P99, p.Saturated()),
	})
	return nil
}
