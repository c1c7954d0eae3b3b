package main

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/runcast/runcast/bench/internal/report"
)

func TestChoose(t *testing.T) {
	all, err := choose("")
	if err != nil || len(all) != len(scenarios) || !all["cpu"] || !all["storm"] || all["scale"] {
		t.Errorf("%v %v", all, err)
	}
	some, err := choose("storm,append")
	if err != nil || some["cpu"] || !some["storm"] || !some["append"] {
		t.Errorf("%v %v", some, err)
	}
	if _, err := choose("cpu,speed"); err == nil || !strings.Contains(err.Error(), "speed") {
		t.Errorf("a scenario that is none: %v", err)
	}
}

// What is shown of a file is judged as it was when it was measured; what is
// of two runs is not shown.
func TestShow(t *testing.T) {
	dir := t.TempDir()
	save := func(name string, found float64) string {
		r := report.New(false)
		r.Rows = []report.Row{{Scenario: "cpu", What: "a delivery", Check: &report.Check{Value: found, Limit: 1.15}}}
		file := filepath.Join(dir, name)
		if err := r.Write(file); err != nil {
			t.Fatal(err)
		}
		return file
	}
	good, bad := save("good", 1.1), save("bad", 1.2)
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-show", good}, &out, &out); err != nil {
		t.Error(err)
	}
	if err := run(t.Context(), []string{"-show", bad}, &out, &out); !errors.Is(err, errMissed) || !strings.Contains(out.String(), "NOT MET") {
		t.Errorf("%v\n%s", err, &out)
	}
	if err := run(t.Context(), []string{"-show", good, bad}, &out, &out); !errors.Is(err, report.ErrOtherRun) {
		t.Errorf("two runs in one table: %v", err)
	}
}
