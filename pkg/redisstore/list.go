package redisstore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/progress"
)

// The bounds of lists.
const (
	DefaultListLimit = 50
	MaxListLimit     = 500
	// maxScan is how many workflows one List looks at; a filter that few
	// pass gives a short page and a cursor to go on from.
	maxScan  = 2000
	scanPage = 100 // members read from a sorted set at a time
)

// ListQuery selects workflows. Empty fields select all.
type ListQuery struct {
	Tag    string
	Status progress.Status
	Type   string
	// Limit is how many to return at most; 0 means [DefaultListLimit], more
	// than [MaxListLimit] means that.
	Limit int
	// Cursor is what the page before returned as next; empty: the first.
	Cursor string
}

// member is one entry of a sorted set: an encoded workflow ID and the time of
// its last change in Unix ms. Lists go from the newest; IDs break ties.
type member struct {
	score float64
	id    string
}

func newestFirst(a, b member) int {
	if c := cmp.Compare(b.score, a.score); c != 0 {
		return c
	}
	return strings.Compare(b.id, a.id)
}

// List returns workflows, newest change first, and a cursor for the next
// page; an empty one means that there is none. Pages may be short, even
// empty, when few workflows pass the filter. A list changes while it is
// read: a workflow that changes meanwhile may be seen twice or not at all.
func (s *Store) List(ctx context.Context, q ListQuery) (items []progress.Summary, next string, err error) {
	if q.Limit <= 0 {
		q.Limit = DefaultListLimit
	}
	q.Limit = min(q.Limit, MaxListLimit)
	after, err := parseCursor(q.Cursor)
	if err != nil {
		return nil, "", err
	}
	sets, err := s.setsFor(q)
	if err != nil {
		return nil, "", err
	}
	m := &merge{s: s, after: after, sets: sets}
	items = []progress.Summary{}
	for scanned := 0; ; {
		page, more, err := m.next(ctx, max(q.Limit, scanPage))
		if err != nil {
			return nil, "", err
		}
		sums, broken, err := s.summaries(ctx, decodeAll(page))
		if err != nil {
			return nil, "", err
		}
		for _, err := range broken {
			s.opts.Logger.WarnContext(ctx, "a workflow is left out of a list", "error", err)
		}
		for i, sum := range sums {
			if !q.matches(&sum) {
				continue
			}
			items = append(items, sum)
			if len(items) == q.Limit {
				if i < len(page)-1 || more {
					next = formatCursor(page[i])
				}
				return items, next, nil
			}
		}
		scanned += len(page)
		if !more || len(page) == 0 {
			return items, "", nil
		}
		if scanned >= maxScan {
			return items, formatCursor(page[len(page)-1]), nil
		}
	}
}

// matches reports whether the workflow is there and passes the filter. The
// index may be behind; the hash is right.
func (q *ListQuery) matches(s *progress.Summary) bool {
	return s.WorkflowID != "" &&
		(q.Status == "" || s.Status == q.Status) &&
		(q.Type == "" || s.Type == q.Type) &&
		(q.Tag == "" || slices.Contains(s.Tags, q.Tag))
}

func (s *Store) setsFor(q ListQuery) ([]string, error) {
	if q.Tag != "" {
		if err := checkTag(q.Tag); err != nil {
			return nil, err
		}
		return []string{s.keys.tag(q.Tag).ids}, nil
	}
	key := s.keys.recent
	if q.Status == progress.StatusRunning || q.Status == progress.StatusQueued {
		key = s.keys.running
	}
	sets := make([]string, shards)
	for i := range sets {
		sets[i] = key(i)
	}
	return sets, nil
}

func formatCursor(m member) string {
	return strconv.FormatInt(int64(m.score), 10) + "-" + m.id
}

func parseCursor(text string) (member, error) {
	if text == "" {
		return member{score: math.Inf(1)}, nil
	}
	score, id, ok := strings.Cut(text, "-")
	n, err := strconv.ParseInt(score, 10, 64)
	if !ok || err != nil || n < 0 || id == "" {
		return member{}, fmt.Errorf("%w: the cursor is not one that a list returned", progress.ErrInvalid)
	}
	return member{score: float64(n), id: id}, nil
}

// decodeAll returns the IDs of members; a broken one becomes an ID that no
// workflow has.
func decodeAll(page []member) []string {
	ids := make([]string, len(page))
	for i, m := range page {
		id, err := DecodeID(m.id)
		if err != nil {
			id = m.id
		}
		ids[i] = id
	}
	return ids
}

// merge reads several sorted sets as one, newest first, a page at a time.
type merge struct {
	s     *Store
	after member // the last one returned
	sets  []string
}

// next returns the n newest members after the last ones, and whether more
// may follow. It asks every set for as many, in one round trip.
func (m *merge) next(ctx context.Context, n int) (page []member, more bool, err error) {
	type part struct {
		list []member
		full bool
	}
	parts := make([]part, len(m.sets))
	todo := make([]int, len(m.sets))
	for i := range todo {
		todo[i] = i
	}
	// A set is asked again with an offset while all that it gave are ties
	// that an earlier page returned.
	for offset := int64(0); len(todo) > 0; offset += int64(n) {
		cmds := make([]*redis.ZSliceCmd, len(todo))
		// Each command has its own error.
		_, _ = m.s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, set := range todo {
				cmds[i] = p.ZRevRangeByScoreWithScores(ctx, m.sets[set], &redis.ZRangeBy{
					Max: formatScore(m.after.score), Min: "-inf", Offset: offset, Count: int64(n),
				})
			}
			return nil
		})
		var again []int
		for i, set := range todo {
			if err := cmds[i].Err(); lasting(err) {
				m.s.opts.Logger.WarnContext(ctx, "a part is left out of a list", "key", m.sets[set], "error", err)
				continue // a key of a wrong type hides no other
			} else if err != nil {
				return nil, false, m.s.classify("list", err)
			}
			p := &parts[set]
			p.full = len(cmds[i].Val()) == n
			for _, z := range cmds[i].Val() {
				id, _ := z.Member.(string)
				if mb := (member{score: z.Score, id: id}); newestFirst(m.after, mb) < 0 || math.IsInf(m.after.score, 1) {
					p.list = append(p.list, mb)
				}
			}
			if p.full && len(p.list) == 0 {
				again = append(again, set)
			}
		}
		todo = again
	}
	for _, p := range parts {
		page = append(page, p.list...)
		more = more || p.full
	}
	slices.SortFunc(page, newestFirst)
	// A set that gave a full page may have more that come before the others'
	// later ones; what is beyond its last is left for the next page.
	limit := len(page)
	for _, p := range parts {
		if p.full {
			last := p.list[len(p.list)-1]
			i, _ := slices.BinarySearchFunc(page, last, newestFirst)
			limit = min(limit, i+1)
		}
	}
	if limit = min(limit, n); limit < len(page) {
		page, more = page[:limit], true
	}
	if len(page) > 0 {
		m.after = page[len(page)-1]
	}
	return page, more, nil
}

func formatScore(score float64) string {
	if math.IsInf(score, 1) {
		return "+inf"
	}
	return strconv.FormatFloat(score, 'f', -1, 64)
}

// TagSummaries returns the summaries of a tag's workflows as they were last
// written for it, newest change first; limit as in [ListQuery].
func (s *Store) TagSummaries(ctx context.Context, tag string, limit int) ([]progress.Summary, error) {
	if err := checkTag(tag); err != nil {
		return nil, err
	}
	if limit <= 0 {
		limit = DefaultListLimit
	}
	limit = min(limit, MaxListLimit)
	k := s.keys.tag(tag)
	ids, err := s.client.ZRevRange(ctx, k.ids, 0, int64(limit)-1).Result()
	if err != nil {
		return nil, s.classify("list a tag", err)
	}
	list := []progress.Summary{}
	if len(ids) == 0 {
		return list, nil
	}
	values, err := s.client.HMGet(ctx, k.summaries, ids...).Result()
	if err != nil {
		return nil, s.classify("list a tag", err)
	}
	for i, v := range values {
		text, ok := v.(string)
		if !ok {
			continue
		}
		var sum progress.Summary
		if err := json.Unmarshal([]byte(text), &sum); err != nil {
			s.opts.Logger.WarnContext(ctx, "a workflow is left out of a tag: its summary is broken", "tag", EncodeID(tag), "member", ids[i], "error", err)
			continue
		}
		if slices.Contains(sum.Tags, tag) {
			list = append(list, sum)
		}
	}
	return list, nil
}

// Running yields the IDs of workflows that are not known to be closed, the
// one that changed longest ago first within each shard. It reads in pages,
// so a workflow may be missed or seen twice while it changes. A shard that
// cannot be read yields its error, and the next ones follow.
func (s *Store) Running(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for n := range shards {
			if !s.runningShard(ctx, n, yield) {
				return
			}
		}
	}
}

func (s *Store) runningShard(ctx context.Context, n int, yield func(string, error) bool) bool {
	min, offset := "-inf", int64(0)
	for {
		page, err := s.client.ZRangeByScoreWithScores(ctx, s.keys.running(n), &redis.ZRangeBy{
			Min: min, Max: "+inf", Offset: offset, Count: scanPage,
		}).Result()
		if err != nil {
			err = s.classify("list running workflows", err)
			// A single server that is away is away for all shards.
			others := s.cluster != nil || !errors.Is(err, progress.ErrUnavailable)
			return yield("", err) && others && ctx.Err() == nil
		}
		for _, z := range page {
			encoded, _ := z.Member.(string)
			id, err := DecodeID(encoded)
			if err != nil {
				s.opts.Logger.WarnContext(ctx, "a list of running workflows holds a member that is no ID", "member", encoded)
				continue
			}
			if !yield(id, nil) {
				return false
			}
		}
		if len(page) < scanPage {
			return true
		}
		// Go on from the last score; its ties that were seen are skipped.
		last := formatScore(page[len(page)-1].Score)
		if last != min {
			min, offset = last, 0
		}
		for i := len(page) - 1; i >= 0 && formatScore(page[i].Score) == last; i-- {
			offset++
		}
	}
}
