package redisstore

import (
	"context"
	_ "embed" // renew.lua
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/progress"
)

//go:embed renew.lua
var renewSource string

// pruneAfter is how long a listed workflow may be without a hash: the lists
// are written first.
const pruneAfter = time.Minute

// A set is pruned by looking at some of its members, drawn by chance: however
// many at its old end are still there, all have their turn. Repair looks at
// more. Every workflow that ends looks at some in each set that it is in, so
// that of a set's members about one in pruneAtEnd may be gone, and no more.
const (
	pruneAtRepair = 20
	pruneAtEnd    = 4
	pruneMost     = 400 // of one set at a time
)

// Repair makes the lists and tags of one workflow agree with its hash, gives
// its keys a full expiry if it is open, and takes what has expired out of the
// lists that it shares. It may be called at any time, by many at once.
func (s *Store) Repair(ctx context.Context, id string) error {
	if err := progress.CheckWorkflowID(id); err != nil {
		return err
	}
	encoded := EncodeID(id)
	n := shard(encoded)
	// The score is read first: a run that begins meanwhile changes it, and is
	// then not taken out below.
	score, err := s.client.ZScore(ctx, s.keys.running(n), encoded).Result()
	listed := err == nil
	if err != nil && !errors.Is(err, redis.Nil) {
		return s.classify("repair", err)
	}
	sums, broken, err := s.summaries(ctx, []string{id})
	if err != nil {
		return err
	}
	if err := broken[0]; err != nil {
		return err
	}
	sum := &sums[0]
	p := s.client.Pipeline()
	switch {
	case sum.WorkflowID == "":
		if listed && s.now().Sub(time.UnixMilli(int64(score))) > pruneAfter {
			p.Eval(ctx, unindexSource, []string{s.keys.running(n)}, encoded, formatScore(score))
		}
	case sum.Status.IsTerminal():
		if listed {
			p.Eval(ctx, unindexSource, []string{s.keys.running(n)}, encoded, formatScore(score))
		}
		s.writeLists(ctx, p, encoded, sum)
	default:
		s.writeLists(ctx, p, encoded, sum)
		k := s.keys.workflow(id)
		p.Eval(ctx, renewSource, []string{k.hash, k.stream, k.producers}, s.opts.TTLRunning.Milliseconds())
		p.PExpire(ctx, s.keys.running(n), s.opts.TTLRunning)
		p.PExpire(ctx, s.keys.recent(n), s.opts.TTLRunning)
	}
	if sum.WorkflowID != "" {
		if err := s.writeTags(ctx, p, encoded, sum); err != nil {
			return err
		}
	}
	if p.Len() > 0 {
		if _, err := p.Exec(ctx); err != nil {
			return s.classify("repair", err)
		}
	}
	sum.WorkflowID = id // also of one that is gone, whose shard may have more
	return s.prune(ctx, s.listsOf(sums, pruneAtRepair))
}

func changed(sum *progress.Summary) float64 { return float64(sum.UpdatedAt.UnixMilli()) }

// draw says how many members of a set to look at.
type draw struct {
	tag string // empty: the set is a shard of recent
	n   int
}

// listsOf returns the sets that the workflows are in, with n members to be
// looked at for each workflow.
func (s *Store) listsOf(sums []progress.Summary, n int) map[string]draw {
	sets := map[string]draw{}
	add := func(set, tag string) {
		d := sets[set]
		sets[set] = draw{tag: tag, n: min(d.n+n, pruneMost)}
	}
	for i := range sums {
		if sums[i].WorkflowID == "" {
			continue
		}
		add(s.keys.recent(shard(EncodeID(sums[i].WorkflowID))), "")
		for _, tag := range sums[i].Tags {
			add(s.keys.tag(tag).ids, tag)
		}
	}
	return sets
}

// prune looks at members of the sets, and takes out those whose workflows are
// gone or no longer have the tag.
func (s *Store) prune(ctx context.Context, sets map[string]draw) error {
	if len(sets) == 0 {
		return nil
	}
	drawn := make(map[string]*redis.ZSliceCmd, len(sets))
	// Each command has its own error.
	_, _ = s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for set, d := range sets {
			drawn[set] = p.ZRandMemberWithScores(ctx, set, d.n)
		}
		return nil
	})
	type candidate struct {
		set, member string
		score       string
		hash        *redis.SliceCmd
	}
	var list []candidate
	p := s.client.Pipeline()
	var failed error
	for set, cmd := range drawn {
		if err := cmd.Err(); err != nil {
			failed = s.classify("prune "+set, err) // the others have their turn
		}
		for _, z := range cmd.Val() {
			member, ok := z.Member.(string)
			if !ok || s.now().Sub(time.UnixMilli(int64(z.Score))) <= pruneAfter {
				continue
			}
			id, err := DecodeID(member)
			if err != nil {
				id = member // no workflow has such an ID
			}
			list = append(list, candidate{set, member, formatScore(z.Score), p.HMGet(ctx, s.keys.workflow(id).hash, "seq", "tags")})
		}
	}
	if len(list) == 0 {
		return failed
	}
	_, _ = p.Exec(ctx) // each command has its own error
	p = s.client.Pipeline()
	for _, c := range list {
		if err := c.hash.Err(); lasting(err) {
			continue // broken, which is not gone
		} else if err != nil {
			return s.classify("prune", err)
		}
		tag := sets[c.set].tag
		if v := c.hash.Val(); v[0] != nil && (tag == "" || hasTag(v[1], tag)) {
			continue
		}
		keys := []string{c.set}
		if tag != "" {
			keys = append(keys, s.keys.tag(tag).summaries)
		}
		p.Eval(ctx, unindexSource, keys, c.member, c.score)
	}
	if p.Len() == 0 {
		return failed
	}
	_, err := p.Exec(ctx)
	return errors.Join(failed, s.classify("prune", err))
}

// hasTag reads the hash's tags; of a broken list it says yes.
func hasTag(value any, tag string) bool {
	text, _ := value.(string)
	if text == "" {
		return false
	}
	var tags []string
	return json.Unmarshal([]byte(text), &tags) != nil || slices.Contains(tags, tag)
}
