package redisstore_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
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
	// scriptStep either deletes keys or runs the script.
	scriptStep struct {
		Del    []string `json:"del,omitempty"`
		Keys   []string `json:"keys,omitempty"`
		Argv   []string `json:"argv,omitempty"`
		Answer []string `json:"answer,omitempty"`
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
	if len(vectors) < 8 {
		t.Fatalf("only %d vectors", len(vectors))
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
	keys := []string{}
	for _, step := range v.Steps {
		if len(step.Keys) > 0 {
			keys = step.Keys
		}
	}
	for _, key := range keys {
		if err := c.Del(ctx, key).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range v.Steps {
		for _, key := range step.Del {
			c.Del(ctx, key)
		}
		if len(step.Keys) > 0 {
			argv := make([]any, len(step.Argv))
			for i, arg := range step.Argv {
				argv[i] = arg
			}
			if sharded {
				argv[1] = "SPUBLISH"
			}
			answer, err := c.Eval(ctx, redisstore.AppendSource, step.Keys, argv...).StringSlice()
			if err != nil {
				t.Fatal(err)
			}
			step.Answer = answer
		}
		got.Steps = append(got.Steps, step)
	}
	got.Hash = c.HGetAll(ctx, keys[0]).Val()
	got.Producers = c.HGetAll(ctx, keys[2]).Val()
	for _, e := range c.XRange(ctx, keys[1], "-", "+").Val() {
		got.Stream = append(got.Stream, streamEntry{e.ID, e.Values["e"].(string)})
	}
	return got
}

// updateScriptVectors makes the vectors from scenarios.
func updateScriptVectors(t *testing.T) {
	c := redis.NewClient(&redis.Options{Addr: testenv.Redis(t).Addr})
	defer c.Close()
	s := redisstore.New(c, redisstore.Options{})
	defer s.Close()
	var out []scriptVector
	for _, sc := range scenarios() {
		v := scriptVector{Name: sc.name}
		for i, do := range sc.steps {
			base := "workflow:{" + redisstore.EncodeID(sc.id) + "}"
			if do.del != nil {
				for j := range do.del {
					v.Steps = append(v.Steps, scriptStep{Del: []string{base + do.del[j]}})
				}
				continue
			}
			args, err := s.AppendArgs(do.a, t0.Add(time.Duration(i)*time.Second))
			if err != nil {
				t.Fatal(sc.name, err)
			}
			step := scriptStep{Keys: []string{base, base + ":events", base + ":producers"}}
			for _, arg := range args {
				if b, ok := arg.([]byte); ok {
					arg = string(b)
				}
				step.Argv = append(step.Argv, fmt.Sprint(arg))
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
