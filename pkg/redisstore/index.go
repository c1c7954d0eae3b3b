package redisstore

import (
	"context"
	_ "embed" // tag.lua, unindex.lua
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/progress"
)

//go:embed tag.lua
var tagSource string

//go:embed unindex.lua
var unindexSource string

const (
	indexEvery    = time.Second     // per workflow, but for changes of status
	indexRetry    = time.Second     // after an error
	listsWithin   = time.Second     // what a run's first append waits for
	maxSeen       = 20_000          // workflows remembered; more cost more writes
	maxDirty      = 10_000          // workflows waiting for their tags
	flushBatch    = 100             // workflows per round trip
	flushAtStop   = 2 * time.Second // what Close waits for
	flushDeadline = 5 * time.Second
)

// indexer keeps the lists and tags up to date. Lists are written with the
// append, in one round trip; tags by a goroutine of its own, which starts
// with the first need and ends with stop.
type indexer struct {
	s *Store

	mu      sync.Mutex
	seen    map[string]*seenWorkflow
	dirty   map[string]*dirtyWorkflow
	started bool
	stopped bool

	wake chan struct{} // one pending wake-up is enough
	quit chan struct{}
	done chan struct{}
}

// seenWorkflow is what this process last wrote about a workflow.
type seenWorkflow struct {
	listed time.Time // in the lists
	tagged time.Time // under its tags
	status progress.Status
	rawTag string // as the hash holds them
	tags   []string
}

// dirtyWorkflow waits to be written.
type dirtyWorkflow struct {
	due    time.Time
	ended  bool     // it leaves the running list, if its hash says so too
	drop   []string // tags that it no longer has
	relist bool     // it may be missing from the lists
}

func newIndexer(s *Store) *indexer {
	return &indexer{
		s: s, seen: map[string]*seenWorkflow{}, dirty: map[string]*dirtyWorkflow{},
		wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
	}
}

// around runs the script, and before it writes the lists when they are due: a
// run must be listed before it exists, or the reconciler would miss one whose
// writer dies in between. On one server both are one round trip, in order; on a
// cluster the client would run the nodes' parts side by side, so a run that
// begins waits for its lists.
func (x *indexer) around(ctx context.Context, a *Append, script func(redis.Cmdable) *redis.Cmd) (any, error) {
	now := x.s.now()
	first, begins, due := x.listDue(a, now)
	if !due {
		return script(x.s.client).Result()
	}
	var (
		p     = x.s.client.Pipeline()
		lists []redis.Cmder // each has its own error
		cmd   *redis.Cmd
	)
	if x.s.cluster != nil && (first || begins) {
		within, cancel := context.WithTimeout(ctx, listsFor(ctx))
		lists = x.queueLists(within, p, a, now, first)
		_, _ = p.Exec(within)
		cancel()
		cmd = script(x.s.client)
	} else {
		lists = x.queueLists(ctx, p, a, now, first)
		cmd = script(p)
		_, _ = p.Exec(ctx)
	}
	for _, c := range lists {
		if c.Err() != nil {
			x.s.stats.indexErrors.Add(1)
			// A script that is not cached is about to be sent whole.
			x.relist(a.WorkflowID, now, cmd.Err() == nil || redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT"))
			break
		}
	}
	return cmd.Result()
}

func (x *indexer) queueLists(ctx context.Context, p redis.Pipeliner, a *Append, now time.Time, first bool) (lists []redis.Cmder) {
	member := EncodeID(a.WorkflowID)
	z := redis.Z{Score: float64(now.UnixMilli()), Member: member}
	n := shard(member)
	keys := []string{x.s.keys.recent(n)}
	if !closing(a.Events) {
		keys = append(keys, x.s.keys.running(n))
	}
	for _, key := range keys {
		lists = append(lists, p.ZAdd(ctx, key, z))
		if first {
			lists = append(lists, p.PExpire(ctx, key, x.s.opts.TTLRunning))
		}
	}
	return lists
}

// listsFor is how long a cluster's lists may take: their node may be away
// while the workflow's is not, and then the script must have its turn.
func listsFor(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(listsWithin, time.Until(deadline)/2)
	}
	return listsWithin
}

// listDue reports whether the lists are to be written, whether for the first
// time, and whether the append says that a run begins; it notes that they are.
func (x *indexer) listDue(a *Append, now time.Time) (first, begins, due bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	w := x.seen[a.WorkflowID]
	if w == nil {
		if len(x.seen) >= maxSeen {
			x.s.stats.indexForgotten.Add(int64(len(x.seen)))
			clear(x.seen)
		}
		w = &seenWorkflow{}
		x.seen[a.WorkflowID] = w
		first = true
	}
	begins = slices.ContainsFunc(a.Events, func(e progress.Event) bool { return e.Type == progress.TypeStarted })
	if !first && !begins && !closing(a.Events) && now.Sub(w.listed) < indexEvery && !now.Before(w.listed) {
		return false, false, false
	}
	w.listed = now
	return first, begins, true
}

// relist notes that the lists could not be written: on a cluster their node
// may be away while the workflow's is not, and the workflow's next event may be
// long in coming. When nothing was appended either, the next attempt does it.
func (x *indexer) relist(id string, now time.Time, appended bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.seen, id)
	if !appended {
		return
	}
	if d := x.mark(id, now.Add(indexRetry)); d != nil {
		d.relist = true
	}
}

// after notes what an append changed, for the goroutine to write.
func (x *indexer) after(id string, ans answer, closed bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	w := x.seen[id]
	if w == nil {
		w = &seenWorkflow{} // forgotten meanwhile; nothing to compare with
	}
	now := x.s.now()
	due := now
	if w.status == ans.status {
		due = w.tagged.Add(indexEvery)
	}
	w.status = ans.status
	var drop []string
	if w.rawTag != ans.tags {
		var tags []string
		if ans.tags != "" {
			_ = json.Unmarshal([]byte(ans.tags), &tags) // a broken list is no list
		}
		for _, tag := range w.tags {
			if !slices.Contains(tags, tag) {
				drop = append(drop, tag)
			}
		}
		w.rawTag, w.tags, due = ans.tags, tags, now
	}
	if len(w.tags) == 0 && len(drop) == 0 && !closed {
		return
	}
	d := x.mark(id, due)
	if d == nil {
		return
	}
	d.ended = d.ended || closed
	d.drop = append(d.drop, drop...)
}

// refused notes that a final refusal may have put a workflow back into the
// running list, whose chain has ended.
func (x *indexer) refused(id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if d := x.mark(id, x.s.now()); d != nil {
		d.ended = true
	}
}

// mark notes that a workflow is to be written, and wakes the goroutine. It
// returns nil when too many wait. It is called with the mutex held.
func (x *indexer) mark(id string, due time.Time) *dirtyWorkflow {
	d := x.dirty[id]
	if d == nil {
		if len(x.dirty) >= maxDirty || x.stopped {
			x.s.stats.indexDropped.Add(1)
			return nil
		}
		d = &dirtyWorkflow{due: due}
		x.dirty[id] = d
	}
	if due.Before(d.due) {
		d.due = due
	}
	if !x.started && !x.stopped {
		x.started = true
		go x.run()
	}
	select {
	case x.wake <- struct{}{}:
	default:
	}
	return d
}

// run is the goroutine that writes tags; stop ends it.
func (x *indexer) run() {
	defer close(x.done)
	for {
		wait := x.flush(context.Background(), x.s.now())
		var timer <-chan time.Time
		if wait >= 0 {
			timer = time.After(wait)
		}
		select {
		case <-x.wake:
		case <-timer:
		case <-x.quit:
			ctx, cancel := context.WithTimeout(context.Background(), flushAtStop)
			defer cancel()
			x.flush(ctx, x.s.now().Add(time.Hour))
			return
		}
	}
}

// stop writes what waits, within a bound, and ends the goroutine. It may be
// called twice.
func (x *indexer) stop() {
	x.mu.Lock()
	started := x.started
	if !x.stopped {
		x.stopped = true
		close(x.quit)
	}
	x.mu.Unlock()
	if started {
		<-x.done
	}
}

// flush writes what is due at now, and returns how long until more is due;
// negative: nothing waits.
func (x *indexer) flush(ctx context.Context, now time.Time) time.Duration {
	for {
		ids, work, wait := x.take(now)
		if len(ids) == 0 {
			return wait
		}
		batch, cancel := context.WithTimeout(ctx, flushDeadline)
		err := x.write(batch, ids, work)
		cancel()
		if err != nil {
			x.s.stats.indexErrors.Add(1)
			x.s.opts.Logger.Warn("tags and lists were not updated; will try again", "workflows", len(ids), "error", err)
			x.putBack(ids, work)
			return indexRetry
		}
	}
}

func (x *indexer) take(now time.Time) (ids []string, work []*dirtyWorkflow, wait time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	wait = -1
	for id, d := range x.dirty {
		if left := d.due.Sub(now); left > 0 {
			if wait < 0 || left < wait {
				wait = left
			}
			continue
		}
		if len(ids) == flushBatch {
			break // the next round takes the rest
		}
		ids, work = append(ids, id), append(work, d)
		delete(x.dirty, id)
		if w := x.seen[id]; w != nil {
			w.tagged = now
		}
	}
	return ids, work, wait
}

func (x *indexer) putBack(ids []string, work []*dirtyWorkflow) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, id := range ids {
		d := x.dirty[id]
		if d == nil {
			if len(x.dirty) >= maxDirty || x.stopped {
				x.s.stats.indexDropped.Add(1)
				continue
			}
			work[i].due = x.s.now().Add(indexRetry)
			x.dirty[id] = work[i]
			continue
		}
		d.ended = d.ended || work[i].ended
		d.drop = append(d.drop, work[i].drop...)
		d.relist = d.relist || work[i].relist
	}
}

func (x *indexer) write(ctx context.Context, ids []string, work []*dirtyWorkflow) error {
	// Scores are read before the hashes: a run that begins meanwhile changes
	// its score first, and is then not taken out below.
	scores, err := x.scores(ctx, ids, work)
	if err != nil {
		return err
	}
	summaries, broken, err := x.s.summaries(ctx, ids)
	if err != nil {
		return err
	}
	for _, err := range broken {
		x.failed(err)
	}
	p := x.s.client.Pipeline()
	var ended []progress.Summary
	for i, id := range ids {
		member, sum := EncodeID(id), &summaries[i]
		if work[i].ended {
			if score := scores[i]; score != "" && broken[i] == nil && (sum.WorkflowID == "" || sum.Status.IsTerminal()) {
				p.Eval(ctx, unindexSource, []string{x.s.keys.running(shard(member))}, member, score)
			}
			ended = append(ended, *sum)
		}
		if work[i].relist {
			x.s.writeLists(ctx, p, member, sum)
		}
		for _, tag := range work[i].drop {
			if slices.Contains(sum.Tags, tag) {
				continue
			}
			k := x.s.keys.tag(tag)
			p.ZRem(ctx, k.ids, member)
			p.HDel(ctx, k.summaries, member)
		}
		if err := x.s.writeTags(ctx, p, member, sum); err != nil {
			x.failed(err)
		}
	}
	if p.Len() > 0 {
		cmds, _ := p.Exec(ctx)
		for _, cmd := range cmds {
			switch err := cmd.Err(); {
			case lasting(err):
				x.failed(err) // the same for ever, so there is no use in trying again
			case err != nil && !errors.Is(err, redis.Nil):
				return x.s.classify("write tags", err)
			}
		}
		x.s.stats.indexWrites.Add(int64(len(ids)))
	}
	// Each set that grows by a workflow is pruned when that workflow ends.
	if err := x.s.prune(ctx, x.s.listsOf(ended, pruneAtEnd)); err != nil {
		x.failed(err)
	}
	return nil
}

// scores returns the scores in the running lists of the workflows that have
// ended; empty for others, and for those that are not listed.
func (x *indexer) scores(ctx context.Context, ids []string, work []*dirtyWorkflow) ([]string, error) {
	cmds := make([]*redis.FloatCmd, len(ids))
	p := x.s.client.Pipeline()
	for i, id := range ids {
		if work[i].ended {
			member := EncodeID(id)
			cmds[i] = p.ZScore(ctx, x.s.keys.running(shard(member)), member)
		}
	}
	scores := make([]string, len(ids))
	if p.Len() == 0 {
		return scores, nil
	}
	_, _ = p.Exec(ctx) // each command has its own error
	for i, cmd := range cmds {
		switch {
		case cmd == nil || errors.Is(cmd.Err(), redis.Nil):
		case lasting(cmd.Err()):
			x.failed(cmd.Err())
		case cmd.Err() != nil:
			return nil, x.s.classify("read lists", cmd.Err())
		default:
			scores[i] = formatScore(cmd.Val())
		}
	}
	return scores, nil
}

func (x *indexer) failed(err error) {
	x.s.stats.indexErrors.Add(1)
	x.s.opts.Logger.Warn("a list or tag was not updated", "error", err)
}

// writeLists queues what puts a workflow into the lists that it is missing
// from.
func (s *Store) writeLists(ctx context.Context, p redis.Pipeliner, member string, sum *progress.Summary) {
	if sum.WorkflowID == "" {
		return
	}
	n, z := shard(member), redis.Z{Score: changed(sum), Member: member}
	p.ZAddNX(ctx, s.keys.recent(n), z)
	if !sum.Status.IsTerminal() {
		p.ZAddNX(ctx, s.keys.running(n), z)
	}
}

// writeTags queues the update of every tag of a workflow.
func (s *Store) writeTags(ctx context.Context, p redis.Pipeliner, member string, sum *progress.Summary) error {
	if len(sum.Tags) == 0 {
		return nil
	}
	pos, err := progress.ParsePosition(sum.Position)
	if err != nil {
		return err
	}
	data, err := encodeJSON(sum)
	if err != nil {
		return err
	}
	for _, tag := range sum.Tags {
		k := s.keys.tag(tag)
		p.Eval(ctx, tagSource, []string{k.ids, k.summaries},
			k.updates, s.publish, member, sum.UpdatedAt.UnixMilli(), data,
			strconv.FormatInt(pos.Epoch, 10), pos.Seq, s.opts.TTLRunning.Milliseconds())
	}
	return nil
}
