// Package arm measures one strategy with some viewers: it starts runs, has
// them followed, and counts what that costs Temporal, its server, Redis and
// the process that follows.
package arm

import (
	"errors"
	"fmt"
	"time"

	"github.com/runcast/runcast/bench/internal/frontend"
	"github.com/runcast/runcast/bench/internal/latency"
	"github.com/runcast/runcast/bench/internal/viewers"
	"github.com/runcast/runcast/bench/internal/workload"
)

// None is the name of no strategy: runs that nobody follows.
const None = "none"

// Bounds of an arm.
const (
	MaxRuns    = 1000
	MaxViewers = 10_000
)

// Config says what is measured.
type Config struct {
	// Strategy is the name of one, or None.
	Strategy string
	// Shared: viewers have streams of the API service, whose hub follows each
	// run once. Else each viewer has a watch of its own, in this process.
	Shared bool
	// Runs go on at a time, each with so many Viewers.
	Runs, Viewers int
	// Workload is what each run does; Begin is set here, Seed is the first
	// run's.
	Workload workload.Input
	// Grace is how long after the last change viewers may take to see the end.
	Grace time.Duration

	// Temporal, Metrics, Worker and Redis are addresses of this machine's
	// loopback: the server, its metrics, what the worker says of itself, and
	// Redis.
	Temporal, Metrics, Worker, Redis string
	Queue                            string
	// TemporalPID and so on are the processes whose CPU time is read.
	TemporalPID, WorkerPID, RedisPID int
}

// Check says what is wrong with the configuration.
func (c *Config) Check() error {
	if c.Runs < 1 || c.Runs > MaxRuns || c.Viewers < 0 || c.Runs*c.Viewers > MaxViewers {
		return fmt.Errorf("%d runs with %d viewers each: there may be 1 to %d runs and up to %d viewers in all", c.Runs, c.Viewers, MaxRuns, MaxViewers)
	}
	if (c.Strategy == None) != (c.Viewers == 0) {
		return fmt.Errorf("%d viewers of strategy %s: there are none exactly where nobody follows", c.Viewers, c.Strategy)
	}
	if c.Grace <= 0 || c.Grace > time.Minute {
		return errors.New("-grace: there must be an end, within a minute")
	}
	for _, addr := range []string{c.Temporal, c.Metrics, c.Worker, c.Redis} {
		if _, err := viewers.Loopback(addr); err != nil {
			return err
		}
	}
	return c.Workload.Check()
}

// Result is what was found.
type Result struct {
	Strategy string `json:"strategy"`
	Shared   bool   `json:"shared"`
	Runs     int    `json:"runs"`
	// Viewers are those of each run.
	Viewers int `json:"viewers"`
	// Changes are those of each run.
	Changes int `json:"changes"`
	// Seconds are from before the first run to after the last end, WatchMinutes
	// the sum over all viewers of how long they watched.
	Seconds      float64 `json:"seconds"`
	WatchMinutes float64 `json:"watch_minutes"`

	// Calls are those of the viewers' client, WorkerCalls those of the
	// worker's, OwnCalls those of the measurement. Server is what the server
	// counted of all of them.
	Calls       frontend.Counts `json:"calls"`
	WorkerCalls frontend.Counts `json:"worker_calls"`
	OwnCalls    frontend.Counts `json:"own_calls"`
	Server      frontend.Server `json:"server"`
	// History is what is in the runs' histories.
	History History `json:"history"`

	// Latency is from a change to when a viewer had it or a newer one, over
	// all viewers and changes. Seen changes reached a viewer as themselves;
	// Missed ones were jumped over; Late ones had not been seen, nor a newer
	// one, when the measurement ended.
	Latency latency.Summary `json:"latency"`
	Seen    int64           `json:"seen"`
	Missed  int64           `json:"missed"`
	Late    int64           `json:"late"`
	// Ended viewers saw the end once, Doubled ones again.
	Ended   int `json:"ended"`
	Doubled int `json:"doubled"`
	// Errors are viewers by the error that ended what they saw, Notices
	// viewers by the kind of notice that they got.
	Errors  map[string]int `json:"errors,omitempty"`
	Notices map[string]int `json:"notices,omitempty"`
	// Gaps are those that viewers of streams were told of, notices aside.
	Gaps int `json:"gaps,omitempty"`
	// Open runs had not closed in time; they were terminated.
	Open int `json:"open,omitempty"`

	CPU CPU `json:"cpu_seconds"`
	// RedisCommands are those that Redis got.
	RedisCommands int64 `json:"redis_commands"`
	// Broken is why this arm counts as broken; empty: it does not.
	Broken string `json:"broken,omitempty"`
}

// CPU is the time that processes spent on a CPU, in seconds.
type CPU struct {
	Temporal float64 `json:"temporal"`
	Worker   float64 `json:"worker"`
	Redis    float64 `json:"redis"`
	Viewers  float64 `json:"viewers"`
}

// Audience is how many viewers there are in all.
func (r *Result) Audience() int { return r.Runs * r.Viewers }

// Expected is how many changes reach viewers when none is jumped over.
func (r *Result) Expected() int64 { return int64(r.Runs * r.Viewers * r.Changes) }

// PerViewerMinute is how many calls a viewer costs in a minute.
func (r *Result) PerViewerMinute() float64 {
	if r.WatchMinutes == 0 {
		return 0
	}
	return float64(r.Calls.Made.Total()) / r.WatchMinutes
}

// PerChange divides a count by the changes of all runs.
func (r *Result) PerChange(n int64) float64 { return float64(n) / float64(r.Runs*r.Changes) }

// Actions are those that Temporal bills for the runs being followed: all that
// the server counted but for what the runs do by themselves, which is their
// starts and timers.
func (r *Result) Actions() int64 {
	return r.Server.Actions.Total() - r.History.Own()
}

// CountedActions are the same by Temporal's published definition, counted
// from the histories and the calls: https://docs.temporal.io/cloud/actions.
// Refused updates leave no trace there, so the server's count is taken for
// them.
func (r *Result) CountedActions() int64 {
	return r.History.Actions() - r.History.Own() + r.Calls.Done["QueryWorkflow"] - r.Calls.Free["QueryWorkflow"] + r.Server.Actions["message_UpdateWorkflowExecution:Rejection"]
}

// Uncounted returns, by method, by how much more or less the server counted
// than was counted where calls are made.
func (r *Result) Uncounted() frontend.Calls {
	made := make(frontend.Calls)
	for _, c := range []frontend.Counts{r.Calls, r.WorkerCalls, r.OwnCalls} {
		made.Add(c.Made)
	}
	diff := make(frontend.Calls)
	for method := range made {
		if !namespaced(method) {
			continue
		}
		if n := r.Server.Calls[method] - made[method]; n != 0 {
			diff[method] = n
		}
	}
	for method, n := range r.Server.Calls {
		if made[method] == 0 && namespaced(method) {
			diff[method] = n
		}
	}
	return diff
}

// namespaced reports a method whose calls name a namespace, and which none
// but the processes of a comparison call.
func namespaced(method string) bool {
	switch method {
	case "GetSystemInfo", "GetClusterInfo":
		return false
	// The server's own workers are in the namespace as well.
	case "PollWorkflowTaskQueue", "PollActivityTaskQueue", "PollNexusTaskQueue", "RecordWorkerHeartbeat", "DescribeNamespace", "ShutdownWorker":
		return false
	}
	return true
}
