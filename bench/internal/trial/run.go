package trial

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/bench/internal/proc"
	"github.com/runcast/runcast/bench/internal/publish"
	"github.com/runcast/runcast/bench/internal/viewers"
)

// The bounds of a trial.
const (
	maxTopics = 10_000
	maxPhase  = 2 * time.Minute
	maxWithin = 10 * time.Minute
	// firstFew viewers come before memory is read for the first time, so that
	// what the server makes once is not counted as theirs.
	firstFew = 10
)

// check reports settings that are out of bounds.
func (c *Config) check() error {
	for _, addr := range []string{c.Server, c.Redis} {
		if _, err := viewers.Loopback(addr); err != nil {
			return err
		}
	}
	switch {
	case c.Topics < 1 || c.Topics > maxTopics || c.Topics > c.Viewers:
		return fmt.Errorf("%d topics for %d viewers; between 1 and %d are possible, and a viewer for each", c.Topics, c.Viewers, maxTopics)
	case c.Within <= 0 || c.Within > maxWithin:
		return fmt.Errorf("a trial of %s; up to %s are possible", c.Within, maxWithin)
	case c.Spread < 0 || c.Spread > c.Within:
		return fmt.Errorf("viewers connect within %s; up to %s are possible", c.Spread, c.Within)
	case c.Positions > 0 && c.Topics > 1:
		return errors.New("viewers resume on one topic only")
	}
	for _, p := range c.Phases {
		if p.Rate <= 0 || p.For <= 0 || p.For > maxPhase {
			return fmt.Errorf("a phase of %s at %v events/s; up to %s are possible", p.For, p.Rate, maxPhase)
		}
	}
	return nil
}

// Workflow returns the ID of the i-th topic.
func Workflow(i int) string { return fmt.Sprintf("bench-%d", i) }

// Run makes the trial.
func Run(ctx context.Context, c Config) (*Result, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Within)
	defer cancel()
	t := &running{Config: c, res: &Result{WebSocket: c.WebSocket, Viewers: c.Viewers, Topics: c.Topics}}
	workflows := make([]string, c.Topics)
	for i := range workflows {
		workflows[i] = Workflow(i)
	}
	var err error
	if t.pub, err = publish.Open(ctx, c.Redis, workflows); err != nil {
		return nil, err
	}
	defer t.pub.Close()
	from, goal, err := t.prepare(ctx)
	if err != nil {
		return nil, err
	}
	t.viewers, err = viewers.New(viewers.Config{
		Server: c.Server, WebSocket: c.WebSocket, Viewers: c.Viewers, Workflows: workflows,
		FirstFrame: !c.Bare, From: from, Goal: goal, Spread: c.Spread,
	})
	if err != nil {
		return nil, err
	}
	defer t.viewers.Close()
	if err := t.attach(ctx); err != nil {
		return nil, err
	}
	for _, p := range c.Phases {
		if err := t.phase(ctx, p); err != nil {
			return nil, err
		}
	}
	return t.res, nil
}

type running struct {
	Config
	pub     *publish.Publisher
	viewers *viewers.Viewers
	res     *Result
}

// prepare writes what there is before the first viewer: an event of each
// topic, or the events that viewers resume from.
func (t *running) prepare(ctx context.Context) (from []viewers.Place, goal int64, err error) {
	for i := range t.Topics {
		if err := t.pub.Append(ctx, i, 1); err != nil {
			return nil, 0, err
		}
	}
	for len(from) < t.Positions {
		pos := t.pub.Position(0)
		from = append(from, viewers.Place{Seq: pos.Seq, Text: pos.String()})
		if err := t.pub.Append(ctx, 0, 1); err != nil {
			return nil, 0, err
		}
	}
	return from, t.pub.Heads()[0], nil
}

// attach opens the connections and measures what that costs.
func (t *running) attach(ctx context.Context) error {
	var before int64
	var err error
	rdb := redis.NewClient(&redis.Options{Addr: t.Redis})
	defer rdb.Close()
	if t.Settle > 0 {
		if err := t.viewers.Open(min(firstFew, t.Viewers), t.Within); err != nil {
			return err
		}
		time.Sleep(t.Settle / 4)
		if before, err = proc.RSS(t.PID); err != nil {
			return err
		}
	}
	calls, err := commands(ctx, rdb)
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := t.viewers.Open(t.Viewers, t.Within); err != nil {
		return err
	}
	t.res.AttachSeconds = time.Since(begin).Seconds()
	t.res.Attach = t.viewers.Ready()
	after, err := commands(ctx, rdb)
	if err != nil {
		return err
	}
	t.res.Commands = make(map[string]int64)
	for name, n := range after {
		if n -= calls[name]; n > 0 && name != "info" {
			t.res.Commands[name] = n
		}
	}
	if t.Positions > 0 {
		counts := t.viewers.Counts()
		t.res.Resumed = &counts
	}
	if t.Settle > 0 {
		time.Sleep(t.Settle)
		rss, err := proc.RSS(t.PID)
		if err != nil {
			return err
		}
		t.res.Memory = Memory{Before: before, After: rss, PerViewer: float64(rss-before) / float64(max(t.Viewers-firstFew, 1))}
	}
	return nil
}

// commands returns the number of calls by command since the server started.
func commands(ctx context.Context, rdb *redis.Client) (map[string]int64, error) {
	info, err := rdb.Info(ctx, "commandstats").Result()
	if err != nil {
		return nil, fmt.Errorf("read commandstats: %w", err)
	}
	calls := make(map[string]int64)
	for line := range strings.Lines(info) {
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
		var n int64
		if _, err := fmt.Sscanf(rest, "calls=%d", &n); ok && err == nil {
			calls[name] = n
		}
	}
	return calls, nil
}

// phase publishes and waits until all was delivered.
func (t *running) phase(ctx context.Context, p Phase) error {
	// One event first: whatever a viewer's first delivery costs is over then.
	t.viewers.Begin(t.pub.Heads())
	for i := range t.Topics {
		if err := t.pub.Append(ctx, i, 1); err != nil {
			return err
		}
	}
	if err := t.viewers.WaitSettled(int64(t.Viewers), max(t.Grace, 10*time.Second)); err != nil {
		return fmt.Errorf("before the phase: %w", err)
	}
	t.viewers.Begin(t.pub.Heads())
	cpu, err := t.cpu()
	if err != nil {
		return err
	}
	begin := time.Now()
	each, took, err := t.pub.Steady(ctx, p.Rate, p.For)
	if err != nil {
		return err
	}
	// Not in time is what the counts will say.
	expected := int64(each) * int64(t.Viewers)
	_ = t.viewers.WaitSettled(expected, t.Grace)
	seconds := time.Since(begin).Seconds()
	now, err := t.cpu()
	if err != nil {
		return err
	}
	spent := now.Sub(cpu)
	r := PhaseResult{
		Rate: p.Rate, Published: int64(each), Actual: p.Rate, Expected: expected,
		Counts: t.viewers.Counts(), Seconds: seconds,
		CPUSeconds: spent.Total.Seconds(), UserSeconds: spent.User.Seconds(), SystemSeconds: spent.System.Seconds(),
	}
	if each > 1 { // the last event ends the last of each-1 stretches
		r.Actual = min(float64(each-1)/took.Seconds(), p.Rate)
	}
	r.Missing = max(expected-r.Delivered-r.Lost, 0)
	if r.Delivered > 0 {
		r.CPUPerDelivery = float64(spent.Total.Microseconds()) / float64(r.Delivered)
	}
	t.res.Phases = append(t.res.Phases, r)
	return nil
}

func (t *running) cpu() (proc.CPU, error) {
	if t.PID == 0 {
		return proc.CPU{}, nil
	}
	return proc.ReadCPU(t.PID)
}
