package redisstore_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

var update = flag.Bool("update", false, "write the golden vectors anew, from a real Redis")

// The golden vectors are data that any language can run; docs/wire-contract.md
// says how.
type (
	scriptVector struct {
		Name  string       `json:"name"`
		Steps []scriptStep `json:"steps"`
		// What Redis then holds.
		Hash      map[string]string `json:"hash"`
		Stream    []streamEntry     `json:"stream"`
		Producers map[string]string `json:"producers"`
	}
	// scriptStep either runs a plain command or a script.
	scriptStep struct {
		Command []string `json:"command,omitempty"`
		Script  string   `json:"script,omitempty"` // such as append.lua
		Keys    []string `json:"keys,omitempty"`
		Argv    []string `json:"argv,omitempty"`
		Answer  []string `json:"answer,omitempty"` // a script's; a number as text
	}
	streamEntry struct {
		ID string `json:"id"`
		E  string `json:"e"`
	}
	foldVector struct {
		Name     string          `json:"name"`
		Events   []string        `json:"events"` // in wire form, byte for byte
		Snapshot json.RawMessage `json:"snapshot"`
	}
	keyVector struct {
		ID      string `json:"id"`
		Encoded string `json:"encoded"`
		Shard   int    `json:"shard"`
		Slot    int    `json:"slot"`
		Hash    string `json:"hash"`
	}
)

func vectorFile(name string) string { return filepath.Join("testdata", "vectors", name+".json") }

func loadVectors[T any](t *testing.T, name string) []T {
	t.Helper()
	data, err := os.ReadFile(vectorFile(name))
	if err != nil {
		t.Fatal(err)
	}
	var list []T
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

func saveVectors(t *testing.T, name string, list any) {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(list); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vectorFile(name), b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestScriptVectors(t *testing.T) {
	if *update {
		updateScriptVectors(t)
	}
	vectors := loadVectors[scriptVector](t, "script")
	if len(vectors) != len(scenarios()) {
		t.Fatalf("%d vectors of %d scenarios", len(vectors), len(scenarios()))
	}
	answers := map[string]bool{}
	for _, v := range vectors {
		for _, step := range v.Steps {
			answers[strings.Join(step.Answer[:min(len(step.Answer), 2)], ", ")] = true
			if len(step.Answer) > 0 {
				answers[step.Answer[0]] = true
			}
		}
	}
	for _, m := range regexp.MustCompile(`return \{'([A-Z_]+)'(?:, '([^']*)')?`).FindAllStringSubmatch(redisstore.AppendSource, -1) {
		// A vector of 256 KiB is none: TestEventsAreBounded has that reason.
		if want := strings.TrimSuffix(m[1]+", "+m[2], ", "); !answers[want] && !strings.Contains(want, "bytes") {
			t.Errorf("no vector answers %q", want)
		}
	}
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			c := s.dial(t, &faults{})
			defer c.Close()
			for _, v := range vectors {
				t.Run(v.Name, func(t *testing.T) {
					got := runVector(t, c, s.sharded, v)
					if d := cmp.Diff(v, got); d != "" {
						t.Error(d)
					}
				})
			}
		})
	}
}

// runVector does a vector's steps and returns it with what came of them.
func runVector(t *testing.T, c redis.UniversalClient, sharded bool, v scriptVector) scriptVector {
	t.Helper()
	ctx := t.Context()
	got := scriptVector{Name: v.Name, Stream: []streamEntry{}}
	keys := v.Steps[0].Keys
	for _, key := range keys {
		if err := c.Del(ctx, key).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range v.Steps {
		got.Steps = append(got.Steps, runStep(t, c, sharded, step))
	}
	got.Hash = c.HGetAll(ctx, keys[0]).Val()
	got.Producers = c.HGetAll(ctx, keys[2]).Val()
	for _, e := range c.XRange(ctx, keys[1], "-", "+").Val() {
		got.Stream = append(got.Stream, streamEntry{e.ID, e.Values["e"].(string)})
	}
	return got
}

// runStep does one step, and returns it with the answer that came.
func runStep(t *testing.T, c redis.UniversalClient, sharded bool, step scriptStep) scriptStep {
	t.Helper()
	if step.Script == "" {
		args := make([]any, len(step.Command))
		for i, arg := range step.Command {
			args[i] = arg
		}
		if err := c.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(step.Command, err)
		}
		return step
	}
	source, err := os.ReadFile(step.Script)
	if err != nil {
		t.Fatal(err)
	}
	argv := make([]any, len(step.Argv))
	for i, arg := range step.Argv {
		if sharded {
			arg = shardedPublish(arg)
		}
		argv[i] = arg
	}
	answer, err := c.Eval(t.Context(), string(source), step.Keys, argv...).Result()
	if err != nil {
		t.Fatal(step, err)
	}
	step.Answer = nil
	switch answer := answer.(type) {
	case []any:
		for _, a := range answer {
			step.Answer = append(step.Answer, fmt.Sprint(a))
		}
	default:
		step.Answer = []string{fmt.Sprint(answer)}
	}
	return step
}

// shardedPublish returns a script's argument as it is on a cluster.
func shardedPublish(arg string) string {
	if first, rest, _ := strings.Cut(arg, " "); first == "PUBLISH" {
		return strings.TrimSuffix("SPUBLISH "+rest, " ")
	}
	return arg
}

// updateScriptVectors makes the vectors from scenarios.
func updateScriptVectors(t *testing.T) {
	c := redis.NewClient(&redis.Options{Addr: testenv.Redis(t).Addr})
	defer c.Close()
	var out []scriptVector
	for _, sc := range scenarios() {
		v := scriptVector{Name: sc.name}
		base := "workflow:{" + redisstore.EncodeID(sc.id) + "}"
		for i, do := range sc.steps {
			if do.command != nil {
				v.Steps = append(v.Steps, scriptStep{Command: do.command(base)})
				continue
			}
			if do.leave.Name != "" {
				v.Steps = append(v.Steps, scriptStep{Script: "leave.lua", Keys: []string{base + ":producers"}, Argv: redisstore.LeaveArgs(do.leave)})
				continue
			}
			if do.earlier {
				i = 0
			}
			s := redisstore.New(c, sc.opts)
			args, err := s.AppendArgs(do.a, t0.Add(time.Duration(i)*time.Second))
			s.Close()
			if err != nil {
				t.Fatal(sc.name, err)
			}
			step := scriptStep{Script: "append.lua", Keys: []string{base, base + ":events", base + ":producers"}}
			for _, arg := range args {
				if b, ok := arg.([]byte); ok {
					arg = string(b)
				}
				step.Argv = append(step.Argv, fmt.Sprint(arg))
			}
			if do.spoil != nil {
				do.spoil(&step)
			}
			v.Steps = append(v.Steps, step)
		}
		out = append(out, runVector(t, c, false, v))
	}
	saveVectors(t, "script", out)
	var folds []foldVector
	for _, v := range out {
		f := foldVector{Name: v.Name}
		var events []progress.Event
		for _, e := range v.Stream {
			ev, err := progress.DecodeEvent([]byte(e.E))
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, ev)
			f.Events = append(f.Events, e.E)
		}
		if len(events) == 0 || events[0].Seq != 1 {
			continue
		}
		snap, err := progress.Fold(events)
		if err != nil {
			t.Fatal(v.Name, err)
		}
		if f.Snapshot, err = json.Marshal(snap); err != nil {
			t.Fatal(err)
		}
		folds = append(folds, f)
	}
	saveVectors(t, "fold", folds)
}

func TestFoldVectors(t *testing.T) {
	for _, v := range loadVectors[foldVector](t, "fold") {
		t.Run(v.Name, func(t *testing.T) {
			var s, want progress.Snapshot
			if err := json.Unmarshal(v.Snapshot, &want); err != nil {
				t.Fatal(err)
			}
			prev := progress.FirstCheck
			for _, raw := range v.Events {
				e, err := progress.DecodeEvent([]byte(raw))
				if err != nil {
					t.Fatal(err)
				}
				_, tail, _ := strings.Cut(raw, `"check":"`+e.Check+`",`)
				if prev = progress.NextCheck(prev, []byte(tail)); prev != e.Check {
					t.Fatalf("seq %d: check %s, want %s", e.Seq, prev, e.Check)
				}
				if err := s.Apply(&e); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(want, s); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestKeyVectors(t *testing.T) {
	if *update {
		var list []keyVector
		for _, id := range []string{
			"order-42", "a b", "{x}", "50%", "größe", "日本語", "line\nbreak", "\"q\" 'a' \\", "a/b:c?d#e", "%7B", "~!@$^&*()[]|;,.<>",
		} {
			enc := redisstore.EncodeID(id)
			hash := "workflow:{" + enc + "}"
			list = append(list, keyVector{id, enc, redisstore.Shard(enc), redisstore.Slot(hash), hash})
		}
		saveVectors(t, "keys", list)
	}
	c := redis.NewClient(&redis.Options{Addr: testenv.Cluster(t).Addrs()[0]})
	defer c.Close()
	for _, v := range loadVectors[keyVector](t, "keys") {
		enc := redisstore.EncodeID(v.ID)
		if enc != v.Encoded || redisstore.Shard(enc) != v.Shard || redisstore.Slot(v.Hash) != v.Slot {
			t.Errorf("%q: %q, shard %d, slot %d; want %+v", v.ID, enc, redisstore.Shard(enc), redisstore.Slot(v.Hash), v)
		}
		if slot := c.ClusterKeySlot(t.Context(), v.Hash).Val(); int(slot) != v.Slot {
			t.Errorf("Redis says slot %d of %q, want %d", slot, v.Hash, v.Slot)
		}
		if id, err := redisstore.DecodeID(v.Encoded); err != nil || id != v.ID {
			t.Errorf("decode %q: %q, %v", v.Encoded, id, err)
		}
	}
	for _, bad := range []string{"%", "%4", "%zz", "%41", "a b", "%7b", "{"} {
		if id, err := redisstore.DecodeID(bad); err == nil {
			t.Errorf("decode %q: %q", bad, id)
		}
	}
}
