package arm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/runcast/runcast/bench/internal/frontend"
	"github.com/runcast/runcast/bench/internal/machine"
	"github.com/runcast/runcast/bench/internal/proc"
	"github.com/runcast/runcast/bench/internal/workload"
)

// run is one that is followed.
type run struct{ id, runID string }

// Clients are how an arm reaches Temporal: Own for what it does itself.
type Clients struct {
	Own        client.Client
	OwnCalls   *frontend.Counter
	Viewers    client.Client
	ViewerCall *frontend.Counter
}

// The parts of the time before the first change: until the runs have begun,
// for each run, and for each viewer.
const (
	leadBase   = 1500 * time.Millisecond
	leadRun    = 10 * time.Millisecond
	leadViewer = time.Millisecond
	// settle is for the runs' first tasks, before anybody watches.
	settle = 300 * time.Millisecond
)

// Run measures. Follow is nil where nobody does.
func Run(ctx context.Context, c Config, clients Clients, follow Follow) (*Result, error) {
	r := &Result{Strategy: c.Strategy, Shared: c.Shared, Runs: c.Runs, Viewers: c.Viewers, Changes: c.Workload.Changes}
	m := &meter{config: c, clients: clients, redis: redis.NewClient(&redis.Options{Addr: c.Redis})}
	defer m.redis.Close()
	before, err := m.read(ctx)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	attach := time.Duration(c.Runs*c.Viewers) * leadViewer
	lead := leadBase + time.Duration(c.Runs)*leadRun + attach
	c.Workload.Begin = begin.Add(lead)
	runs, err := start(ctx, c, clients.Own)
	if err != nil {
		return nil, err
	}
	if !pause(ctx, settle) {
		return nil, ctx.Err()
	}
	watching, done := context.WithDeadline(ctx, c.Workload.Begin.Add(c.Workload.Over+c.Grace))
	defer done()
	var viewers []*Viewer
	for n := range c.Runs {
		for range c.Viewers {
			viewers = append(viewers, &Viewer{Run: n, Seen: make([]int64, c.Workload.Changes)})
		}
	}
	if follow != nil {
		ids := make([]string, len(runs))
		for n, r := range runs {
			ids[n] = r.id
		}
		if err := follow(watching, ids, viewers, attach); err != nil {
			return nil, err
		}
	}
	changes, open, err := ends(ctx, watching, clients.Own, runs)
	if err != nil {
		return nil, err
	}
	r.Seconds = time.Since(begin).Seconds()
	after, err := m.read(ctx)
	if err != nil {
		return nil, err
	}
	after.sub(before, r)
	r.Open = open
	for _, run := range runs {
		if err := r.History.read(ctx, clients.Own, run); err != nil {
			return nil, err
		}
	}
	sum(viewers, r, changes)
	return r, nil
}

// start begins the runs, some at a time.
func start(ctx context.Context, c Config, own client.Client) ([]run, error) {
	runs := make([]run, c.Runs)
	errs := make([]error, c.Runs)
	ids := fmt.Sprintf("compare-%s-%d-%d", c.Strategy, os.Getpid(), time.Now().UnixMilli())
	next := make(chan int)
	var starters sync.WaitGroup
	for range min(8, c.Runs) {
		starters.Go(func() {
			for n := range next {
				in := c.Workload
				in.Seed += uint64(n)
				id := fmt.Sprintf("%s-%d", ids, n)
				h, err := own.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: c.Queue}, workload.Name, in)
				if err != nil {
					errs[n] = fmt.Errorf("start %s: %w", id, err)
					continue
				}
				runs[n] = run{id, h.GetRunID()}
			}
		})
	}
	for n := range runs {
		next <- n
	}
	close(next)
	starters.Wait()
	return runs, errors.Join(errs...)
}

// ends returns when the runs' changes were. Runs that are open when watching
// is over are terminated, and counted.
func ends(ctx, watching context.Context, own client.Client, runs []run) (changes [][]time.Time, open int, err error) {
	changes = make([][]time.Time, len(runs))
	for n, r := range runs {
		var result workload.Result
		err := own.GetWorkflow(watching, r.id, r.runID).Get(watching, &result)
		if err != nil && watching.Err() != nil && ctx.Err() == nil {
			// It is terminated unless it has ended.
			var gone *serviceerror.NotFound
			if err := own.TerminateWorkflow(ctx, r.id, r.runID, "it took too long"); err != nil && !errors.As(err, &gone) {
				return nil, 0, fmt.Errorf("terminate %s: %w", r.id, err)
			}
			err = own.GetWorkflow(ctx, r.id, r.runID).Get(ctx, &result)
		}
		var terminated *temporal.TerminatedError
		switch {
		case err == nil:
			changes[n] = result.Changes
		case errors.As(err, &terminated):
			open++
		default:
			return nil, 0, fmt.Errorf("the run %s: %w", r.id, err)
		}
	}
	return changes, open, nil
}

// meter reads what runs all the time.
type meter struct {
	config  Config
	clients Clients
	redis   *redis.Client
}

// reading is what a meter has read.
type reading struct {
	viewers, worker, own frontend.Counts
	server               frontend.Server
	cpu                  [4]proc.CPU
	commands             int64
}

func (m *meter) read(ctx context.Context) (r reading, err error) {
	for i, pid := range []int{m.config.TemporalPID, m.config.WorkerPID, m.config.RedisPID, os.Getpid()} {
		if r.cpu[i], err = proc.ReadCPU(pid); err != nil {
			return r, err
		}
	}
	if r.commands, err = commands(ctx, m.redis); err != nil {
		return r, err
	}
	if r.worker, err = workerCalls(ctx, m.config.Worker); err != nil {
		return r, err
	}
	r.viewers, r.own = m.clients.ViewerCall.Read(), m.clients.OwnCalls.Read()
	r.server, err = frontend.ReadServer(ctx, m.config.Metrics)
	return r, err
}

// sub puts what went on since an earlier reading into the result.
func (r reading) sub(since reading, into *Result) {
	into.Calls, into.WorkerCalls, into.OwnCalls = r.viewers.Sub(since.viewers), r.worker.Sub(since.worker), r.own.Sub(since.own)
	into.Server = r.server.Sub(since.server)
	into.RedisCommands = r.commands - since.commands
	for i, to := range []*float64{&into.CPU.Temporal, &into.CPU.Worker, &into.CPU.Redis, &into.CPU.Viewers} {
		*to = r.cpu[i].Sub(since.cpu[i]).Total.Seconds()
	}
}

// workerCalls asks the worker what it has called.
func workerCalls(ctx context.Context, addr string) (c frontend.Counts, err error) {
	body, err := machine.Get(ctx, "http://"+addr+"/calls")
	if err != nil {
		return c, fmt.Errorf("ask the worker for its calls: %w", err)
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&c); err != nil {
		return c, fmt.Errorf("ask the worker for its calls: %w", err)
	}
	return c, nil
}
