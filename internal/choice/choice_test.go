package choice

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

var known = Known{Strategies: []string{"redis", "poll", "update"}, Types: []string{"A", "B"}}

func TestLoad(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte("# a trial\ndefault: poll\nA: {redis: 0, update: 100}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		setting, a, b string
	}{
		{"", "redis", "redis"},
		{"  ", "redis", "redis"},
		{"poll", "poll", "poll"},
		{" poll\n", "poll", "poll"},
		{"A: poll", "poll", "redis"},
		{"{default: update, A: poll}", "poll", "update"},
		{"default: update\nB:\n  poll: 100\n", "update", "poll"},
		{"'B': 'poll'", "redis", "poll"},
		{"\n  A: poll\n  default: update\n", "poll", "update"},
		{file, "update", "poll"},
	} {
		r, err := Load(tt.setting, known)
		if err != nil {
			t.Errorf("%q: %v", tt.setting, err)
			continue
		}
		if a, b := r.Pick("A", "x"), r.Pick("B", "x"); a != tt.a || b != tt.b {
			t.Errorf("%q picks %s and %s, want %s and %s", tt.setting, a, b, tt.a, tt.b)
		}
	}
}

// An error says where it is, what it is and what would help.
func TestLoadErrors(t *testing.T) {
	big := filepath.Join(t.TempDir(), "big.yaml")
	if err := os.WriteFile(big, []byte("# "+strings.Repeat("x", maxFile)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		setting string
		want    []string
	}{
		{"pol", []string{`"pol"`, "redis, poll, update", "file"}},
		{"A: pol", []string{"line 1, A", `no strategy "pol"`, "use redis, poll, update"}},
		{"default: redis\nC: poll", []string{"line 2, C", "no workflow type", "use A, B"}},
		{"A: {redis: 90, update: 9}", []string{"line 1, A", "add up to 99", "make them 100"}},
		{"A:\n  redis: 90\n  update: 20", []string{"A", "add up to 110"}},
		{"A: {}", []string{"line 1, A", "add up to 0"}},
		{"A: {redis: 50, push: 50}", []string{"line 1, A", `no strategy "push"`}},
		{"A:\n  redis: half\n  poll: 50", []string{"line 2, A.redis", `"half"`, "0 to 100"}},
		{"A: {redis: -1, poll: 101}", []string{"A.redis", `"-1"`, "A.poll", `"101"`}},
		{"A: {redis: 99.5, poll: 0.5}", []string{`"99.5"`, "whole number"}},
		{"A: {redis: {}, poll: 100}", []string{"A.redis", "percentage"}},
		{"A: [redis]", []string{"line 1, A", "no mapping"}},
		{"A: ", []string{"line 1, A", `no strategy ""`}},
		{"A: redis\nA: poll", []string{"line 2, A", "twice"}},
		{"A: &x redis\nB: *x", []string{"line 2, B", "aliases"}},
		{"[A: redis]", []string{"line 1, the rules", "no mapping"}},
		{"? [A]\n: redis", []string{"line 1", "plain text"}},
		{"A: redis\n---\nB: poll", []string{"more than one document"}},
		{"A: redis: poll", []string{"no YAML"}},
		{"signal", []string{"signal cannot be used", "set KEY"}},
		{" signal ", []string{"signal cannot be used", "set KEY"}},
		{"A: {redis: 50, signal: 50}", []string{"line 1, A", "signal cannot be used", "set KEY"}},
		{"A" + strings.Repeat("é", 100) + ": poll", []string{"no workflow type"}},
		{"A: x\nB: y", []string{`"x"`, `"y"`}},
		{big, []string{"at most"}},
		{filepath.Join(t.TempDir(), "none.yaml"), []string{"no such file"}},
	} {
		known := known
		known.Missing = map[string]string{"signal": "there is no key; set KEY"}
		_, err := Load(tt.setting, known)
		if err == nil {
			t.Errorf("%q was taken", tt.setting)
			continue
		}
		if !utf8.ValidString(err.Error()) {
			t.Errorf("%q: the error is cut within a letter: %q", tt.setting, err)
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v; it lacks %q", tt.setting, err, want)
			}
		}
	}
}

// The shares are those of the rule, a viewer keeps its strategy, and a share
// that grows takes viewers from the others only.
func TestPick(t *testing.T) {
	const viewers = 20_000
	parse := func(text string) *Rules {
		r, err := Parse(text, known)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r, again, grown := parse("A: {redis: 90, update: 10}\nB: {redis: 90, update: 10}"), parse("A: {update: 10, redis: 90}"), parse("A: {redis: 80, update: 20}")
	count := make(map[string]int)
	same := 0
	for i := range viewers {
		viewer := fmt.Sprint("viewer-", i)
		got := r.Pick("A", viewer)
		count[got]++
		if got != again.Pick("A", viewer) {
			t.Fatalf("%s gets another strategy where the order is another one", viewer)
		}
		if got == "update" && grown.Pick("A", viewer) != "update" {
			t.Fatalf("%s left the arm that grew", viewer)
		}
		if got == "update" && r.Pick("B", viewer) == "update" {
			same++
		}
	}
	if share := float64(count["update"]) / viewers; math.Abs(share-0.1) > 0.01 || count["redis"]+count["update"] != viewers {
		t.Errorf("the shares are %v", count)
	}
	if share := float64(same) / viewers; math.Abs(share-0.01) > 0.005 {
		t.Errorf("%.3f of the viewers are in both trials, want about 0.01", share)
	}
	if !r.Split("A") || r.Split("C") || parse("A: {redis: 100, poll: 0}").Split("A") {
		t.Error("Split is wrong")
	}
	if got := r.Types(); fmt.Sprint(got) != "[A B]" {
		t.Errorf("Types: %v", got)
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"", "A: redis", "A: {redis: 90, update: 10}", "A: &x {redis: 100}\nB: *x", "<<: {A: poll}", "? !!binary x\n: y"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse(text, known)
		if err != nil {
			return
		}
		for _, typ := range []string{"A", "B", "C"} {
			if r.Pick(typ, "x") == "" {
				t.Errorf("%q picks nothing for %s", text, typ)
			}
		}
	})
}
