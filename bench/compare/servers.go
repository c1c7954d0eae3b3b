package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/runcast/runcast/bench/internal/arm"
	"github.com/runcast/runcast/bench/internal/frontend"
	"github.com/runcast/runcast/bench/internal/machine"
	"github.com/runcast/runcast/pkg/strategy"
)

// grace is how long after its last change a run and its viewers may take to
// end.
const grace = 8 * time.Second

// servers are what a strategy is measured on.
type servers struct {
	name, bin, dir          string
	cores                   machine.Cores
	temporal, worker, redis *machine.Process
	temporalAddr, metrics   string
	workerAddr, redisAddr   string
}

// startServers starts Temporal, which may use both cores, and the rest on one
// of them.
func startServers(ctx context.Context, cores machine.Cores, bin, name string) (s *servers, err error) {
	s = &servers{name: name, bin: bin, cores: cores}
	defer func() {
		if err != nil {
			s.stop()
			s = nil
		}
	}()
	if s.dir, err = os.MkdirTemp("", "compare-"); err != nil {
		return s, fmt.Errorf("make a directory for Redis: %w", err)
	}
	for _, addr := range []*string{&s.temporalAddr, &s.metrics, &s.workerAddr} {
		if *addr, err = machine.FreeAddr(); err != nil {
			return s, err
		}
	}
	if s.redis, s.redisAddr, err = machine.Redis(ctx, cores.Load, s.dir); err != nil {
		return s, err
	}
	if s.temporal, err = machine.Start(machine.AnyCore, filepath.Join(bin, "temporald"),
		"--temporal-addr", s.temporalAddr, "--metrics-addr", s.metrics, "--fine-timers"); err != nil {
		return s, err
	}
	if err = s.temporal.Ready(ctx, func(ctx context.Context) error { return frontend.Ready(ctx, s.temporalAddr) }); err != nil {
		return s, err
	}
	args := []string{"-listen", s.workerAddr, "-temporal", s.temporalAddr, "-queue", queue}
	// The others do without Redis.
	switch name {
	case strategy.Redis:
		args = append(args, "-redis", s.redisAddr)
	case strategy.Push:
		args = append(args, "-letters", s.redisAddr)
	}
	if s.worker, err = machine.Start(cores.Load, filepath.Join(bin, "runs"), args...); err != nil {
		return s, err
	}
	return s, s.worker.Ready(ctx, machine.Answers("http://"+s.workerAddr+"/readyz"))
}

const (
	queue = "compare"
	// seed makes the changes come at the same times in all arms.
	seed = "1"
)

func (s *servers) stop() {
	for _, p := range []*machine.Process{s.worker, s.temporal, s.redis} {
		if p != nil {
			p.Stop()
		}
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir) // nothing of it is of use to anybody
	}
}

// measure has a process follow runs, and returns what it says.
func (s *servers) measure(ctx context.Context, sh shape) (*arm.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, sh.over+grace+time.Minute)
	defer cancel()
	out, err := machine.Output(ctx, s.cores.Load, filepath.Join(s.bin, "follow"),
		"-strategy", s.name, "-shared="+strconv.FormatBool(sh.shared), "-watch", filepath.Join(s.bin, "watch"),
		"-runs", strconv.Itoa(sh.runs), "-viewers", strconv.Itoa(sh.viewers),
		"-changes", strconv.Itoa(sh.changes), "-over", sh.over.String(), "-seed", seed, "-grace", grace.String(),
		"-temporal", s.temporalAddr, "-metrics", s.metrics, "-worker", s.workerAddr, "-redis", s.redisAddr, "-queue", queue,
		"-temporal-pid", strconv.Itoa(s.temporal.PID), "-worker-pid", strconv.Itoa(s.worker.PID), "-redis-pid", strconv.Itoa(s.redis.PID))
	if err != nil {
		return nil, err
	}
	r := new(arm.Result)
	if err := json.Unmarshal(out, r); err != nil {
		return nil, fmt.Errorf("read what follow says: %w", err)
	}
	return r, nil
}
