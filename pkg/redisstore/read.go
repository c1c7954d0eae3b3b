package redisstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/progress"
)

// Snapshot returns the fold of all events of a workflow so far, without its
// records. The error wraps [progress.ErrNotFound] if there is no such
// workflow.
func (s *Store) Snapshot(ctx context.Context, id string) (progress.Snapshot, error) {
	v, err := s.read(ctx, id, 0, 0)
	if err != nil {
		return progress.Snapshot{}, err
	}
	if v.Snapshot.Seq == 0 {
		return progress.Snapshot{}, fmt.Errorf("workflow %s: %w", EncodeID(id), progress.ErrNotFound)
	}
	return v.Snapshot, nil
}

// Read returns, in one round trip and consistent, the snapshot and the
// events that the stream still holds from the given seq on, oldest first and
// at most limit; a limit of 0 or less means all. If there is no such workflow
// it returns the zero View and no error.
func (s *Store) Read(ctx context.Context, id string, from int64, limit int) (progress.View, error) {
	if limit <= 0 {
		limit = -1
	}
	return s.read(ctx, id, max(from, 1), limit)
}

// read reads no events if from is 0. It uses commands that a user who may
// only read may call, and no MULTI: a server that is out of memory refuses
// that even for reads. Others may write in between, so what is newer than the
// hash, which is read first, or of a newer stream, is left out.
func (s *Store) read(ctx context.Context, id string, from int64, limit int) (progress.View, error) {
	if err := progress.CheckWorkflowID(id); err != nil {
		return progress.View{}, err
	}
	v, whole, err := s.readOnce(ctx, id, from, limit)
	if err == nil && !whole {
		v, _, err = s.readOnce(ctx, id, from, limit)
	}
	return v, err
}

// readOnce reports whole as false when events are missing that the hash knows
// of. That is so while a cluster moves the keys to another node: the client
// asks for the hash again there, after the stream was read here.
func (s *Store) readOnce(ctx context.Context, id string, from int64, limit int) (v progress.View, whole bool, err error) {
	k := s.keys.workflow(id)
	var (
		hash          *redis.MapStringStringCmd
		first, events *redis.XMessageSliceCmd
	)
	_, err = s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		hash = p.HGetAll(ctx, k.hash)
		start := strconv.FormatInt(from, 10) + "-0"
		switch {
		case from == 0:
		case limit < 0:
			events = p.XRange(ctx, k.stream, start, "+")
		default:
			events = p.XRangeN(ctx, k.stream, start, "+", int64(limit))
		}
		first = p.XRangeN(ctx, k.stream, "-", "+", 1)
		return nil
	})
	if err != nil {
		return progress.View{}, true, s.classify("read", err)
	}
	if hash.Val()["seq"] == "" {
		return progress.View{}, true, nil
	}
	snap, err := snapshotFromHash(hash.Val())
	if err != nil {
		return progress.View{}, true, fmt.Errorf("workflow %s: %w", EncodeID(id), err)
	}
	v = progress.View{Snapshot: snap}
	v.Snapshot.FirstSeq = 0
	if held := rawEvents(first.Val(), snap.Epoch, snap.Seq); len(held) > 0 {
		v.Snapshot.FirstSeq = held[0].Seq
	}
	if events != nil {
		v.Events = rawEvents(events.Val(), snap.Epoch, snap.Seq)
		if n := len(v.Events); n > 0 {
			if first := &v.Snapshot.FirstSeq; *first == 0 || v.Events[0].Seq < *first {
				*first = v.Events[0].Seq // trimmed a moment ago
			}
			return v, n == limit || v.Events[n-1].Seq >= snap.Seq, nil
		}
	}
	return v, true, nil
}

// rawEvents leaves out what does not belong to the snapshot beside it: the
// rest of a stream whose hash was lost and began anew.
func rawEvents(entries []redis.XMessage, epoch, last int64) []progress.RawEvent {
	events := make([]progress.RawEvent, 0, len(entries))
	head := []byte(`{"epoch":` + strconv.FormatInt(epoch, 10) + `,`)
	for _, entry := range entries {
		text, _ := entry.Values["e"].(string)
		seq, err := strconv.ParseInt(strings.TrimSuffix(entry.ID, "-0"), 10, 64)
		data := []byte(text)
		if err != nil || seq > last || !bytes.HasPrefix(data, head) {
			continue
		}
		events = append(events, progress.RawEvent{Seq: seq, Data: data})
	}
	return events
}

// Heads returns where the streams of the given workflows stand, as their
// masters know; zero for one that does not exist. One pipeline per node. One
// whose hash is broken, or whose node does not answer, hides no other: it is
// [progress.UnknownPosition]. It is an error when no node answers.
func (s *Store) Heads(ctx context.Context, ids []string) ([]progress.Position, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	for _, id := range ids {
		if err := progress.CheckWorkflowID(id); err != nil {
			return nil, err
		}
	}
	cmds := make([]*redis.SliceCmd, len(ids))
	// Each command has its own error.
	_, _ = s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			cmds[i] = p.HMGet(ctx, s.keys.workflow(id).hash, "epoch", "seq", "check")
		}
		return nil
	})
	heads := make([]progress.Position, len(ids))
	var unknown, away int
	var first error
	for i, cmd := range cmds {
		pos, err := headOf(cmd)
		if err == nil {
			heads[i] = pos
			continue
		}
		heads[i] = progress.UnknownPosition
		unknown++
		if cmd.Err() != nil && !lasting(err) {
			away++
		}
		if first == nil {
			first = fmt.Errorf("workflow %s: %w", EncodeID(ids[i]), err)
		}
	}
	if away == len(ids) {
		return nil, s.classify("read positions", first)
	}
	if unknown > 0 {
		s.opts.Logger.WarnContext(ctx, "some positions cannot be read", "workflows", unknown, "error", first)
	}
	return heads, nil
}

// headOf reads a position from the fields epoch, seq and check.
func headOf(cmd *redis.SliceCmd) (progress.Position, error) {
	v, err := cmd.Result()
	if err != nil {
		return progress.Position{}, err
	}
	epoch, _ := v[0].(string)
	seq, _ := v[1].(string)
	check, _ := v[2].(string)
	if seq == "" {
		return progress.Position{}, nil
	}
	pos, err := progress.ParsePosition(epoch + "-" + seq + "-" + check)
	if err != nil {
		return progress.Position{}, fmt.Errorf("the hash is broken: %w", err)
	}
	return pos, nil
}

// summaryFields are the fields of the hash that make a summary.
var summaryFields = []string{
	"status", "type", "percent", "current", "total", "step", "message", "error", "tags",
	"started_at", "updated_at", "closed_at", "workflow_id", "run_id", "epoch", "seq", "check",
}

// summaries returns the summary of each workflow; the zero Summary for one
// that does not exist, or whose hash cannot be read: broken says why, by place.
// One that a foreign writer has spoiled must not hide all the others.
func (s *Store) summaries(ctx context.Context, ids []string) (list []progress.Summary, broken map[int]error, err error) {
	if len(ids) == 0 {
		return nil, nil, nil
	}
	cmds := make([]*redis.SliceCmd, len(ids))
	// Each command has its own error.
	_, _ = s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			cmds[i] = p.HMGet(ctx, s.keys.workflow(id).hash, summaryFields...)
		}
		return nil
	})
	list = make([]progress.Summary, len(ids))
	broken = map[int]error{}
	for i, cmd := range cmds {
		if err := cmd.Err(); lasting(err) {
			broken[i] = fmt.Errorf("workflow %s: %w", EncodeID(ids[i]), err)
			continue
		} else if err != nil {
			return nil, nil, s.classify("read summaries", err)
		}
		fields := make(map[string]string, len(summaryFields))
		for j, v := range cmd.Val() {
			if text, ok := v.(string); ok {
				fields[summaryFields[j]] = text
			}
		}
		if fields["seq"] == "" {
			continue
		}
		snap, err := snapshotFromHash(fields)
		if err != nil {
			broken[i] = fmt.Errorf("workflow %s: %w", EncodeID(ids[i]), err)
			continue
		}
		list[i] = snap.Summary()
	}
	return list, broken, nil
}

// snapshotFromHash reads the hash's fields, of which any may be absent.
// Unknown ones are left to newer readers.
func snapshotFromHash(fields map[string]string) (progress.Snapshot, error) {
	r := hashReader{fields: fields}
	s := progress.Snapshot{
		V: int(r.int("v")), WorkflowID: fields["workflow_id"],
		Epoch: r.int("epoch"), Seq: r.int("seq"), Check: fields["check"], FirstSeq: r.int("first_seq"),
		RunID: fields["run_id"], Chain: fields["chain"], Type: fields["type"],
		Status: progress.Status(fields["status"]), Percent: r.float("percent"),
		Current: r.optional("current"), Total: r.optional("total"),
		Step: fields["step"], Message: fields["message"], Error: fields["error"], Attempt: int(r.int("attempt")),
		StartedAt: r.time("started_at"), UpdatedAt: r.time("updated_at"), ClosedAt: r.time("closed_at"),
		StepsOmitted: int(r.int("steps_omitted")),
	}
	if tags := fields["tags"]; tags != "" {
		r.note("tags", json.Unmarshal([]byte(tags), &s.Tags))
	}
	for name, value := range fields {
		if step, ok := strings.CutPrefix(name, "step."); ok {
			var state progress.Step
			r.note(name, json.Unmarshal([]byte(value), &state))
			state.Name = step
			s.Steps = append(s.Steps, state)
		} else if step, ok := strings.CutPrefix(name, "output."); ok {
			from, attempt, _ := strings.Cut(value, " ")
			f, err1 := strconv.ParseInt(from, 10, 64)
			a, err2 := strconv.Atoi(attempt)
			r.note(name, errors.Join(err1, err2))
			s.Outputs = append(s.Outputs, progress.Output{Step: step, From: f, Attempt: a})
		}
	}
	slices.SortFunc(s.Steps, func(a, b progress.Step) int { return int(a.First - b.First) })
	slices.SortFunc(s.Outputs, func(a, b progress.Output) int { return strings.Compare(a.Step, b.Step) })
	for _, o := range s.Outputs {
		if s.OutputFrom == 0 || o.From < s.OutputFrom {
			s.OutputFrom = o.From
		}
	}
	return s, r.err
}

// hashReader reads typed fields and keeps the first error.
type hashReader struct {
	fields map[string]string
	err    error
}

func (r *hashReader) note(field string, err error) {
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("the hash's field %q is broken: %w", field, err)
	}
}

func (r *hashReader) int(field string) int64 {
	text := r.fields[field]
	if text == "" {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	r.note(field, err)
	return n
}

func (r *hashReader) optional(field string) *int64 {
	if r.fields[field] == "" {
		return nil
	}
	n := r.int(field)
	return &n
}

func (r *hashReader) float(field string) *float64 {
	text := r.fields[field]
	if text == "" {
		return nil
	}
	f, err := strconv.ParseFloat(text, 64)
	r.note(field, err)
	return &f
}

func (r *hashReader) time(field string) time.Time {
	text := r.fields[field]
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	r.note(field, err)
	return t
}
