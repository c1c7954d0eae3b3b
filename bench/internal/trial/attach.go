package trial

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/bench/internal/proc"
	"github.com/runcast/runcast/bench/internal/publish"
)

// attachAll opens the connections and measures what that costs.
func (t *running) attachAll(ctx context.Context) error {
	if t.Positions > 0 {
		if err := t.resume(ctx, &t.res.Attach); err != nil {
			return err
		}
		t.res.Again = new(Attach)
		t.viewers.Cut()
		return t.resume(ctx, t.res.Again)
	}
	var before int64
	var err error
	if t.Settle > 0 {
		if err := t.viewers.Open(min(firstFew, t.Viewers), t.Within); err != nil {
			return err
		}
		time.Sleep(t.Settle / 4)
		if before, err = proc.RSS(t.PID); err != nil {
			return err
		}
	}
	begin := time.Now()
	if err := t.viewers.Open(t.Viewers, t.Within); err != nil {
		return err
	}
	t.res.Attach = Attach{Wait: t.viewers.Ready(), Seconds: time.Since(begin).Seconds()}
	if t.Settle > 0 {
		time.Sleep(t.Settle)
		rss, err := proc.RSS(t.PID)
		if err != nil {
			return err
		}
		t.res.Memory = Memory{Before: before, After: rss, PerViewer: float64(rss-before) / float64(max(t.Viewers-firstFew, 1))}
	}
	return t.viewers.OpenStuck(t.Stuck)
}

// resume has all viewers come with a position each, while events are written,
// and waits until each has what it lacked.
func (t *running) resume(ctx context.Context, a *Attach) error {
	from, goal := t.places(), t.pub.Heads()[0]
	before, err := commands(ctx, t.rdb)
	if err != nil {
		return err
	}
	spent, err := t.spent()
	if err != nil {
		return err
	}
	begin := time.Now()
	var written publish.Stretch
	writes := make(chan error, 1)
	go func() {
		if t.During == 0 {
			writes <- nil
			return
		}
		var err error
		written, err = t.pub.Steady(ctx, t.During, t.Spread+time.Second/2)
		writes <- err
	}()
	err = t.viewers.Resume(t.Viewers, from, goal, t.Within)
	a.Seconds = time.Since(begin).Seconds()
	if e := <-writes; err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	now, err := t.spent()
	if err != nil {
		return err
	}
	share := func(now, before proc.CPU) float64 {
		return now.Sub(before).Total.Seconds() / time.Since(begin).Seconds()
	}
	a.Busy = busy(share(now.server, spent.server), share(now.load, spent.load), share(now.redis, spent.redis))
	a.First = t.viewers.First()
	a.Wait, a.Published = t.viewers.Ready(), int64(written.Each)
	head := t.pub.Heads()[0]
	for i := range t.Viewers {
		a.Expected += head - from[i%len(from)].Seq
	}
	// Not in time is what the counts will say.
	_ = t.viewers.WaitSettled(a.Expected, t.Grace)
	counts := t.viewers.Counts()
	a.Seen = &counts
	after, err := commands(ctx, t.rdb)
	if err != nil {
		return err
	}
	a.Commands = make(map[string]int64)
	for name, n := range after {
		n -= before[name] + int64(math.Round(t.perAppend[name]*float64(written.Appends)))
		if n > 0 && !slices.Contains(notViewers, name) {
			a.Commands[name] = n
		}
	}
	return nil
}

// notViewers are commands that are none of the subscriber's, who may only read:
// those that write, and the question how many there were.
var notViewers = []string{
	"info", "eval", "evalsha", "script|load", "hset", "hdel", "xadd", "publish", "zadd", "zrem", "expire", "pexpire",
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
