package trial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/bench/internal/publish"
	"github.com/runcast/runcast/bench/internal/viewers"
	"github.com/runcast/runcast/pkg/progress"
)

// The bounds of a trial.
const (
	maxTopics    = 10_000
	maxPositions = 2000
	maxPhase     = 2 * time.Minute
	maxWithin    = 10 * time.Minute
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
	case c.Positions < 0 || c.Positions > maxPositions:
		return fmt.Errorf("%d positions; up to %d are possible", c.Positions, maxPositions)
	case c.Positions > 0 && c.Topics > 1:
		return errors.New("viewers resume on one topic only")
	case c.During < 0 || c.During > 0 && c.Positions == 0:
		return errors.New("events are written meanwhile only while viewers resume")
	case c.Listen != "" && (c.Topics > 1 || c.Positions > 0 || len(c.Phases) > 0 || c.Bare):
		return errors.New("viewers who listen follow one workflow that others write to; there are no topics, positions and phases")
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

// Run makes the trial. Where viewers listen it ends soon after stdin has.
func Run(ctx context.Context, c Config, stdin io.Reader) (*Result, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Within)
	defer cancel()
	t := &running{
		Config: c, res: &Result{WebSocket: c.WebSocket, Viewers: c.Viewers, Topics: c.Topics},
		rdb: redis.NewClient(&redis.Options{Addr: c.Redis}),
	}
	defer t.rdb.Close()
	workflows := []string{c.Listen}
	if c.Listen == "" {
		workflows = make([]string, c.Topics)
		for i := range workflows {
			workflows[i] = Workflow(i)
		}
		var err error
		if t.pub, err = publish.Open(ctx, c.Redis, workflows, c.Positions); err != nil {
			return nil, err
		}
		defer t.pub.Close()
		if err := t.prepare(ctx); err != nil {
			return nil, err
		}
	}
	vc := viewers.Config{
		Server: c.Server, WebSocket: c.WebSocket, Mixed: c.Mixed, Secure: c.Secure, Latest: c.Latest,
		Viewers: c.Viewers, Workflows: workflows, FirstFrame: !c.Bare, Spread: c.Spread,
	}
	if c.Listen != "" {
		vc.Timed = string(progress.TypeProgress)
	}
	var err error
	if t.viewers, err = viewers.New(vc); err != nil {
		return nil, err
	}
	defer t.viewers.Close()
	if err := t.attachAll(ctx); err != nil {
		return nil, err
	}
	if c.Listen != "" {
		return t.res, t.listen(ctx, stdin)
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
	pub     *publish.Publisher // nil where viewers listen
	viewers *viewers.Viewers
	rdb     *redis.Client
	res     *Result
	// perAppend is how often the script calls each command for one event.
	perAppend map[string]float64
}

// prepare writes what there is before the first viewer: an event of each
// topic, or the events that viewers resume from.
func (t *running) prepare(ctx context.Context) error {
	for i := range t.Topics {
		if err := t.pub.Append(ctx, i, time.Now()); err != nil {
			return err
		}
	}
	if t.Positions == 0 {
		return nil
	}
	before, err := commands(ctx, t.rdb)
	if err != nil {
		return err
	}
	for range t.Positions {
		if err := t.pub.Append(ctx, 0, time.Now()); err != nil {
			return err
		}
	}
	after, err := commands(ctx, t.rdb)
	if err != nil {
		return err
	}
	t.perAppend = make(map[string]float64)
	for name, n := range after {
		t.perAppend[name] = float64(n-before[name]) / float64(t.Positions)
	}
	// One more, so that each has something to get.
	return t.pub.Append(ctx, 0, time.Now())
}

// places returns the positions that viewers resume from, in no order, the
// same at every trial: the best order, the oldest first, is what a server
// would wish for.
func (t *running) places() []viewers.Place {
	kept := t.pub.Positions()
	places := make([]viewers.Place, len(kept))
	for i, pos := range kept {
		places[i] = viewers.Place{Seq: pos.Seq, Text: pos.String()}
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(places), func(i, j int) { places[i], places[j] = places[j], places[i] })
	return places
}
