package redisstore_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/internal/testenv"
)

// listVector is one of the scripts that keep lists, tags and expiries.
type listVector struct {
	Name  string       `json:"name"`
	Steps []scriptStep `json:"steps"`
	// What Redis then holds: members with their scores, fields, and which of
	// the keys expire.
	Sets    map[string]map[string]float64 `json:"sets"`
	Hashes  map[string]map[string]string  `json:"hashes"`
	Expires []string                      `json:"expires"`
}

func listScenarios() []listVector {
	const set, summaries, hash = "tag:{T}", "tag:{T}:summaries", "workflow:{id}"
	summary := func(position string) string { return `{"workflow_id":"id","tags":["T"],"position":"` + position + `"}` }
	tag := func(score, position, epoch, seq string) scriptStep {
		return scriptStep{Script: "tag.lua", Keys: []string{set, summaries},
			Argv: []string{"tag:{T}:updates", "PUBLISH", "id", score, summary(position), epoch, seq, "60000"}}
	}
	unindex := func(score string, keys ...string) scriptStep {
		return scriptStep{Script: "unindex.lua", Keys: keys, Argv: []string{"id", score}}
	}
	renew := scriptStep{Script: "renew.lua", Keys: []string{hash, hash + ":events", hash + ":producers"}, Argv: []string{"60000"}}
	cmd := func(args ...string) scriptStep { return scriptStep{Command: args} }
	return []listVector{
		{Name: "a summary is put under its tag", Steps: []scriptStep{tag("5", "7-2-01234567", "7", "2")}},
		{Name: "an older summary does not bring back the past", Steps: []scriptStep{
			tag("5", "7-10-01234567", "7", "10"), tag("4", "7-9-01234567", "7", "9"), tag("5", "7-10-01234567", "7", "10"),
		}},
		{Name: "a newer summary replaces it, and so does one of another stream", Steps: []scriptStep{
			tag("5", "7-9-01234567", "7", "9"), tag("6", "7-10-01234567", "7", "10"), tag("7", "8-1-01234567", "8", "1"),
		}},
		{Name: "a broken summary is replaced", Steps: []scriptStep{cmd("HSET", summaries, "id", "x"), tag("5", "7-1-01234567", "7", "1")}},
		{Name: "a member leaves a list", Steps: []scriptStep{
			cmd("ZADD", "running:{0}", "5", "id", "5", "other"), unindex("5", "running:{0}"), unindex("5", "running:{0}"),
		}},
		{Name: "a member that has changed stays", Steps: []scriptStep{
			cmd("ZADD", "running:{0}", "5", "id"), unindex("4", "running:{0}"), unindex("6", "running:{0}"),
		}},
		{Name: "a member leaves a tag with its summary", Steps: []scriptStep{
			tag("5", "7-2-01234567", "7", "2"), unindex("4", set, summaries), cmd("HSET", summaries, "other", "x"), unindex("5", set, summaries),
		}},
		{Name: "an open workflow is renewed", Steps: []scriptStep{cmd("HSET", hash, "seq", "1"), cmd("HSET", hash+":producers", "p", "x"), renew}},
		{Name: "a closed workflow is not", Steps: []scriptStep{cmd("HSET", hash, "seq", "1", "closed_at", "x"), renew}},
	}
}

// runListVector does a vector's steps and returns it with what came of them.
func runListVector(t *testing.T, c redis.UniversalClient, sharded bool, v listVector) listVector {
	t.Helper()
	ctx := t.Context()
	var keys []string
	for _, step := range v.Steps {
		keys = append(keys, step.Keys...)
		if step.Script == "" {
			keys = append(keys, step.Command[1])
		}
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	for _, key := range keys {
		if err := c.Del(ctx, key).Err(); err != nil {
			t.Fatal(err)
		}
	}
	got := listVector{Name: v.Name, Sets: map[string]map[string]float64{}, Hashes: map[string]map[string]string{}, Expires: []string{}}
	for _, step := range v.Steps {
		got.Steps = append(got.Steps, runStep(t, c, sharded, step))
	}
	for _, key := range keys {
		if c.PTTL(ctx, key).Val() > 0 {
			got.Expires = append(got.Expires, key)
		}
		switch c.Type(ctx, key).Val() {
		case "zset":
			got.Sets[key] = map[string]float64{}
			for _, z := range c.ZRangeWithScores(ctx, key, 0, -1).Val() {
				got.Sets[key][z.Member.(string)] = z.Score
			}
		case "hash":
			got.Hashes[key] = c.HGetAll(ctx, key).Val()
		}
	}
	return got
}

func TestListVectors(t *testing.T) {
	if *update {
		c := redis.NewClient(&redis.Options{Addr: testenv.Redis(t).Addr})
		defer c.Close()
		var out []listVector
		for _, v := range listScenarios() {
			out = append(out, runListVector(t, c, false, v))
		}
		saveVectors(t, "lists", out)
	}
	vectors := loadVectors[listVector](t, "lists")
	if len(vectors) != len(listScenarios()) {
		t.Fatalf("%d vectors of %d scenarios", len(vectors), len(listScenarios()))
	}
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			c := s.dial(t, &faults{})
			defer c.Close()
			for _, v := range vectors {
				t.Run(v.Name, func(t *testing.T) {
					if d := cmp.Diff(v, runListVector(t, c, s.sharded, v)); d != "" {
						t.Error(d)
					}
				})
			}
		})
	}
}
