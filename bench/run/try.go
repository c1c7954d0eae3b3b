package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/runcast/runcast/bench/internal/machine"
	"github.com/runcast/runcast/bench/internal/report"
	"github.com/runcast/runcast/bench/internal/trial"
	"github.com/runcast/runcast/bench/internal/viewers"
)

// server is one that is measured.
type server struct {
	*machine.Process
	name string
	addr string
	url  string // with the scheme
}

// serve starts a server that is measured, on a core and on a Redis without keys.
func (b *bench) serve(ctx context.Context, name string, secure bool) (*server, error) {
	if err := b.rdb.FlushAll(ctx).Err(); err != nil {
		return nil, fmt.Errorf("empty Redis: %w", err)
	}
	return b.node(ctx, name, secure)
}

// node starts a server, beside others if there are any.
func (b *bench) node(ctx context.Context, name string, secure bool) (*server, error) {
	addr, err := machine.FreeAddr()
	if err != nil {
		return nil, err
	}
	s := &server{name: name, addr: addr, url: "http://" + addr}
	args := []string{"-addr", addr, "-redis", b.redisAddr}
	if name == subscriber {
		args = []string{"--addr", addr, "--redis-url", "redis://" + b.redisAddr, "--max-viewers", "20000", "--log-level", "WARN"}
		if secure {
			s.url = "https://" + addr
			args = append(args, "--tls-cert", b.cert, "--tls-key", b.key)
		}
	}
	if s.Process, err = machine.Start(b.report.Cores.Server, filepath.Join(b.bin, name), args...); err != nil {
		return nil, err
	}
	if err := s.Ready(ctx, machine.Answers(s.url+"/readyz")); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// try makes one trial of a server that is started for it. A trial that fails
// is kept as a sample with its error; the result is nil then.
func (b *bench) try(ctx context.Context, name string, round int, c trial.Config) (*trial.Result, error) {
	s, err := b.serve(ctx, name, c.Secure != viewers.Clear)
	if err != nil {
		return nil, err
	}
	defer s.Stop()
	return b.load(ctx, s, round, c)
}

// load makes a trial of a server that runs.
func (b *bench) load(ctx context.Context, s *server, round int, c trial.Config) (*trial.Result, error) {
	out, err := machine.Output(ctx, b.report.Cores.Load, filepath.Join(b.bin, "load"), b.loadArgs(s, c)...)
	return b.loaded(ctx, s, round, c, out, err)
}

// loadArgs are load's arguments for a trial.
func (b *bench) loadArgs(s *server, c trial.Config) []string {
	if c.Grace == 0 {
		c.Grace = 10 * time.Second
	}
	if c.Within == 0 {
		c.Within = 2 * time.Minute
	}
	args := []string{
		"-server", s.addr, "-pid", strconv.Itoa(s.PID), "-redis", b.redisAddr, "-redis-pid", strconv.Itoa(b.redis.PID),
		"-viewers", strconv.Itoa(c.Viewers), "-topics", strconv.Itoa(max(c.Topics, 1)), "-stuck", strconv.Itoa(c.Stuck),
		"-settle", c.Settle.String(), "-spread", c.Spread.String(), "-grace", c.Grace.String(), "-within", c.Within.String(),
		"-positions", strconv.Itoa(c.Positions), "-during", fmt.Sprint(c.During), "-listen", c.Listen, "-secure", string(c.Secure),
		"-ws=" + strconv.FormatBool(c.WebSocket), "-mixed=" + strconv.FormatBool(c.Mixed), "-latest=" + strconv.FormatBool(c.Latest),
		"-bare=" + strconv.FormatBool(s.name != subscriber),
	}
	for _, ph := range c.Phases {
		args = append(args, "-phase", fmt.Sprintf("%g/%s", ph.Rate, ph.For))
	}
	return args
}

// loaded keeps what load said, and compares it with what the subscriber says.
func (b *bench) loaded(ctx context.Context, s *server, round int, c trial.Config, out []byte, err error) (*trial.Result, error) {
	sample := report.Sample{Run: b.report.ID, Scenario: b.scenario, Server: s.name, Round: round, Order: len(b.report.Samples)}
	res := new(trial.Result)
	if err == nil {
		err = json.Unmarshal(out, res)
	}
	if err == nil && c.Listen == "" && len(res.Phases) != len(c.Phases) {
		err = errors.New("load left a phase out")
	}
	if err == nil && s.name == subscriber {
		if res.Server, err = counters(ctx, s.url); err == nil {
			err = disagreement(res, c)
		}
	}
	if err != nil {
		sample.Error = err.Error()
	}
	if out != nil {
		sample.Result = res
	}
	b.report.Samples = append(b.report.Samples, sample)
	if err != nil {
		return nil, err
	}
	return res, nil
}
