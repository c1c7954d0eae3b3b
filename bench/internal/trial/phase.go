package trial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/bench/internal/proc"
)

// phase publishes and waits until all was delivered.
func (t *running) phase(ctx context.Context, p Phase) error {
	// One event first: whatever a viewer's first delivery costs is over then.
	t.viewers.Begin(t.pub.Heads())
	for i := range t.Topics {
		if err := t.pub.Append(ctx, i, time.Now()); err != nil {
			return err
		}
	}
	if err := t.viewers.WaitSettled(int64(t.Viewers), max(t.Grace, 10*time.Second)); err != nil {
		return fmt.Errorf("before the phase: %w", err)
	}
	t.viewers.Begin(t.pub.Heads())
	before, err := t.spent()
	if err != nil {
		return err
	}
	begin := time.Now()
	written, err := t.pub.Steady(ctx, p.Rate, p.For)
	if err != nil {
		return err
	}
	// Not in time is what the counts will say.
	expected := int64(written.Each) * int64(t.Viewers)
	_ = t.viewers.WaitSettled(expected, t.Grace)
	r := PhaseResult{
		Rate: p.Rate, Published: int64(written.Each), Actual: p.Rate, Expected: expected,
		PerAppend: float64(written.Each*t.Topics) / float64(written.Appends), LatestMS: float64(written.Latest.Microseconds()) / 1000,
	}
	if written.Each > 1 { // the last event ends the last of so many stretches
		r.Actual = min(float64(written.Each-1)/written.Took.Seconds(), p.Rate)
	}
	return t.result(r, begin, before)
}

// listen waits until whoever writes is done, and all was delivered.
func (t *running) listen(ctx context.Context, stdin io.Reader) error {
	t.viewers.Begin(nil)
	begin := time.Now()
	before, err := t.spent()
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { // ends with the input, at the latest with the process
		_, err := io.Copy(io.Discard, stdin)
		ended <- err
	}()
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("wait for the end of the input: %w", err)
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	text, err := t.rdb.HGet(ctx, "workflow:{"+t.Listen+"}", "seq").Result()
	if errors.Is(err, redis.Nil) {
		return fmt.Errorf("nobody wrote to the workflow %s", t.Listen)
	} else if err != nil {
		return fmt.Errorf("read how much was written: %w", err)
	}
	head, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return fmt.Errorf("read how much was written: %w", err)
	}
	expected := head * int64(t.Viewers)
	_ = t.viewers.WaitSettled(expected, t.Grace)
	return t.result(PhaseResult{Published: head, Expected: expected}, begin, before)
}

// result adds what was seen and spent since then.
func (t *running) result(r PhaseResult, begin time.Time, before spending) error {
	r.Seconds = time.Since(begin).Seconds()
	now, err := t.spent()
	if err != nil {
		return err
	}
	server := now.server.Sub(before.server)
	r.CPUSeconds, r.UserSeconds, r.SystemSeconds = server.Total.Seconds(), server.User.Seconds(), server.System.Seconds()
	r.LoadCPUSeconds = now.load.Sub(before.load).Total.Seconds()
	r.RedisCPUSeconds = now.redis.Sub(before.redis).Total.Seconds()
	r.Counts = t.viewers.Counts()
	r.Missing = max(r.Expected-r.Delivered-r.Lost-r.Skipped, 0)
	if r.Delivered > 0 {
		r.CPUPerDelivery = float64(server.Total.Microseconds()) / float64(r.Delivered)
	}
	t.res.Phases = append(t.res.Phases, r)
	return nil
}

// spending is the time on the CPU of all that takes part.
type spending struct{ server, redis, load proc.CPU }

func (t *running) spent() (s spending, err error) {
	for _, one := range []struct {
		pid int
		to  *proc.CPU
	}{{t.PID, &s.server}, {t.RedisPID, &s.redis}, {os.Getpid(), &s.load}} {
		if one.pid == 0 {
			continue
		}
		if *one.to, err = proc.ReadCPU(one.pid); err != nil {
			return s, err
		}
	}
	return s, nil
}
