package redisstore

import (
	"context"
	_ "embed" // append.lua
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/progress"
)

//go:embed append.lua
var appendSource string

var appendScript = redis.NewScript(appendSource)

// The bounds of one append: how many events it may hold, and in bytes the
// JSON of each, without what the script puts in front, and of all together,
// since a server does nothing else while it writes them. A snapshot holds the
// names and states (the JSON) of many steps, so these are shorter.
const (
	MaxEvents      = 256
	MaxEventBytes  = 256 << 10
	MaxAppendBytes = 4 << 20
	MaxStepBytes   = 1000
	MaxStateBytes  = 64 << 10
)

// ErrReopened refuses an event of a new run of a closed chain, as a reset
// makes one: send it again with its run ID as its chain. It comes wrapped
// together with [progress.ErrClosed].
var ErrReopened = errors.New("the run reopens a closed chain")

// Fence says which run an append speaks for, so that events of a superseded
// run are refused. Run IDs have no order, so the time tells which is newer.
type Fence struct {
	// RunID and Chain are those of all events of the append. A program that
	// no Temporal workflow stands behind names each of its executions, and
	// says in RunTime when it began; one that runs only once may leave all
	// three empty, and after its end the stream takes no more from it.
	RunID, Chain string
	// RunTime is the time, by Temporal, of the run's first live task. Zero:
	// not known (or no run); then only events of the current run are taken.
	RunTime time.Time
	// Provisional marks a note that the run was queued, whose RunTime is the
	// time of the note. It never supersedes an open run, and comes too late
	// behind any event of its own.
	Provisional bool
}

// Producer is who writes: one execution of an activity attempt, a workflow
// run, an outside program. Of two with the same name the later execution
// (Started, then Attempt, then Nonce) takes over, and the earlier one's
// events are refused.
type Producer struct {
	// Name is unique within the workflow. Empty: none, as Number 0.
	Name string
	// Started is when Temporal started the execution. Zero: it has none.
	Started time.Time
	// Attempt counts from 1; 0: it has none.
	Attempt int
	// Nonce is any text that tells executions apart which share Started and
	// Attempt; the greater one, by bytes, is the later.
	Nonce string
	// Sparse numbers only rise: a number left out is no event lost.
	Sparse bool
}

// Append is a batch of events of one workflow, written together or not at
// all.
type Append struct {
	WorkflowID string
	Fence      Fence
	Producer   Producer
	// Number is the first event's among its producer's, from 1. A producer
	// has one append under way at a time, and repeats it with the same
	// number. Zero: unnumbered, so a repetition is written again.
	Number int64
	Events []progress.Event
}

// Result says where an append ended up.
type Result struct {
	// Position is that of the producer's last event.
	Position progress.Position
	// Duplicate: the append's number had been seen before, and nothing was
	// written. Either it had been written, or a later one of its producer
	// landed first and has counted it among the lost.
	Duplicate bool
	// Lost is how many earlier events of the producer the stream lacks.
	Lost int64
}

// Append writes events. On an error nothing was written, or it is not known
// whether (the error is then [progress.ErrUnavailable]; repeat the append
// with the same number). The other errors are [progress.ErrInvalid],
// [progress.ErrSuperseded], [progress.ErrClosed], [ErrReopened],
// [progress.ErrUnknownRun] and [progress.ErrTooManyProducers].
func (s *Store) Append(ctx context.Context, a Append) (Result, error) {
	args, err := s.appendArgs(&a)
	if err != nil {
		return Result{}, err
	}
	return s.runAppend(ctx, &a, args)
}

func (s *Store) runAppend(ctx context.Context, a *Append, args []any) (Result, error) {
	k := s.keys.workflow(a.WorkflowID)
	keys := []string{k.hash, k.stream, k.producers}
	closes := closing(a.Events)
	reply, err := s.index.around(ctx, a, func(c redis.Cmdable) *redis.Cmd {
		return c.EvalSha(ctx, appendScript.Hash(), keys, args...)
	})
	if err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") {
		// The cache is empty after a restart or failover; EVAL fills it.
		reply, err = appendScript.Eval(ctx, s.client, keys, args...).Result()
	}
	if err != nil {
		err = s.classify("append", err)
		if errors.Is(err, progress.ErrUnavailable) {
			s.stats.unavailable.Add(1)
		}
		return Result{}, err
	}
	ans, err := parseAnswer(reply)
	if err != nil {
		return Result{}, err
	}
	switch ans.code {
	case "OK":
		s.stats.appends.Add(1)
		s.stats.events.Add(int64(len(a.Events)))
		s.stats.lost.Add(ans.lost)
		s.stats.publishFailed.Add(ans.failed)
		s.index.after(a.WorkflowID, ans, closes)
	case "DUPLICATE":
		s.stats.duplicates.Add(1)
		// The answer of the first attempt may be what was lost.
		s.index.after(a.WorkflowID, ans, closes)
	default:
		return Result{}, s.refusal(a, ans)
	}
	return Result{Position: ans.position, Duplicate: ans.code == "DUPLICATE", Lost: ans.lost}, nil
}

func (s *Store) refusal(a *Append, ans answer) error {
	id := EncodeID(a.WorkflowID)
	switch ans.code {
	case "SUPERSEDED":
		s.stats.superseded.Add(1)
		s.index.refused(a.WorkflowID)
		return fmt.Errorf("append to %s: %w", id, progress.ErrSuperseded)
	case "CLOSED":
		s.stats.closed.Add(1)
		s.index.refused(a.WorkflowID)
		if a.Fence.RunID == "" {
			return fmt.Errorf("append to %s: %w; a program that runs again names each execution in the fence's RunID, with its RunTime", id, progress.ErrClosed)
		}
		return fmt.Errorf("append to %s: %w", id, progress.ErrClosed)
	case "REOPENED":
		s.stats.reopened.Add(1)
		return fmt.Errorf("append to %s: %w: %w", id, progress.ErrClosed, ErrReopened)
	case "UNKNOWN_RUN":
		s.stats.unknownRun.Add(1)
		return fmt.Errorf("append to %s: %w", id, progress.ErrUnknownRun)
	case "PRODUCERS_FULL":
		s.stats.producersFull.Add(1)
		return fmt.Errorf("append to %s: %w", id, progress.ErrTooManyProducers)
	}
	return fmt.Errorf("append to %s: %w: %s", id, progress.ErrInvalid, ans.why)
}

// answer is what the script answers; see append.lua.
type answer struct {
	code, why    string
	position     progress.Position
	lost, failed int64
	status       progress.Status
	tags         string // JSON array, or empty
}

func parseAnswer(reply any) (answer, error) {
	bad := func() (answer, error) { return answer{}, fmt.Errorf("append: the script answered %v", reply) }
	list, ok := reply.([]any)
	if !ok || len(list) == 0 {
		return bad()
	}
	text := make([]string, len(list))
	for i, v := range list {
		if text[i], ok = v.(string); !ok {
			return bad()
		}
	}
	ans := answer{code: text[0]}
	if ans.code != "OK" && ans.code != "DUPLICATE" {
		if len(text) > 1 {
			ans.why = text[1]
		}
		return ans, nil
	}
	if len(text) < 8 {
		return bad()
	}
	var errs [4]error
	ans.position.Epoch, errs[0] = strconv.ParseInt(text[1], 10, 64)
	ans.position.Seq, errs[1] = strconv.ParseInt(text[2], 10, 64)
	ans.position.Check = text[3]
	ans.lost, errs[2] = strconv.ParseInt(text[4], 10, 64)
	ans.status, ans.tags = progress.Status(text[5]), text[6]
	ans.failed, errs[3] = strconv.ParseInt(text[7], 10, 64)
	if errors.Join(errs[:]...) != nil {
		return bad()
	}
	return ans, nil
}

func closing(events []progress.Event) bool {
	return len(events) > 0 && events[len(events)-1].Type == progress.TypeClosed
}

func (a *Append) check() error {
	if err := progress.CheckWorkflowID(a.WorkflowID); err != nil {
		return err
	}
	switch n := len(a.Events); {
	case n == 0:
		return fmt.Errorf("%w: an append without events", progress.ErrInvalid)
	case n > MaxEvents:
		return fmt.Errorf("%w: an append of %d events; %d are allowed", progress.ErrInvalid, n, MaxEvents)
	case a.Number < 0, a.Number > 0 && a.Producer.Name == "":
		return fmt.Errorf("%w: an append numbered %d of producer %q", progress.ErrInvalid, a.Number, a.Producer.Name)
	}
	for i := range a.Events {
		e := &a.Events[i]
		if err := e.Validate(); err != nil {
			return err
		}
		if e.WorkflowID != a.WorkflowID || e.RunID != a.Fence.RunID || e.Chain != a.Fence.Chain {
			return fmt.Errorf("%w: an event of another workflow, run or chain than its append", progress.ErrInvalid)
		}
		if e.Type == progress.TypeClosed && i < len(a.Events)-1 {
			return fmt.Errorf("%w: an event after the closed one", progress.ErrInvalid)
		}
		if len(e.Tags) > MaxTags {
			return fmt.Errorf("%w: %d tags; %d are allowed", progress.ErrInvalid, len(e.Tags), MaxTags)
		}
		for _, tag := range e.Tags {
			if err := checkTag(tag); err != nil {
				return err
			}
		}
	}
	return nil
}
