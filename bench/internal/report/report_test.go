package report

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func TestDifferentRunsAreNotCompared(t *testing.T) {
	a, b := New(true), New(true)
	if _, err := Ratio(Figure{a.ID, 1}, Figure{b.ID, 1}); !errors.Is(err, ErrOtherRun) {
		t.Errorf("Ratio: %v", err)
	}
	if _, err := Ratios([]Figure{{a.ID, 1}}, []Figure{{b.ID, 2}}); !errors.Is(err, ErrOtherRun) {
		t.Errorf("Ratios: %v", err)
	}
	if r, err := Ratio(Figure{a.ID, 3}, Figure{a.ID, 2}); err != nil || r != 1.5 {
		t.Errorf("of one run: %v %v", r, err)
	}
	dir := t.TempDir()
	one, two, mixed := filepath.Join(dir, "1"), filepath.Join(dir, "2"), filepath.Join(dir, "3")
	c := New(true)
	c.Samples = []Sample{{Run: c.ID}, {Run: a.ID}}
	for file, run := range map[string]*Run{one: a, two: b, mixed: c} {
		if err := run.Write(file); err != nil {
			t.Fatal(err)
		}
	}
	for _, files := range [][]string{{one, two}, {mixed}} {
		if _, err := Read(files...); !errors.Is(err, ErrOtherRun) {
			t.Errorf("Read %v: %v", files, err)
		}
	}
	if r, err := Read(one, one); err != nil || r.ID != a.ID {
		t.Errorf("two parts of one run: %v", err)
	}
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		of   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := Median(tt.of); got != tt.want {
			t.Errorf("median of %v is %v, want %v", tt.of, got, tt.want)
		}
	}
}

func TestTableSaysWhatIsMet(t *testing.T) {
	r := New(false)
	r.Rows = []Row{
		{Scenario: "cpu", What: "sse", Floor: Value(7.8), Subscriber: Value(8.2), Unit: "µs", Check: &Check{Value: 1.05, Limit: 1.15, Unit: "x"}},
		{Scenario: "append", What: "singly", Check: &Check{Value: .2, Limit: .25, AtLeast: true}},
		{Scenario: "cpu", What: "short", Check: &Check{Value: 9, Limit: 1, Skipped: true}},
	}
	if r.Missed() != 1 {
		t.Errorf("%d are missed", r.Missed())
	}
	var b strings.Builder
	if err := r.Table(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	for i, want := range []string{" met", "NOT MET", "not judged"} {
		if line := lines[len(lines)-3+i]; !strings.HasSuffix(line, want) {
			t.Errorf("%q does not end in %q", line, want)
		}
	}
	if number(1234567) != "1,234,567" || number(127) != "127" {
		t.Error(number(1234567), number(127))
	}
}
