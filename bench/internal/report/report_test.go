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
	if Number(1234567) != "1,234,567" || Number(127) != "127" {
		t.Error(Number(1234567), Number(127))
	}
}

func TestMarkdownHasWhatIsJudged(t *testing.T) {
	r := New(false)
	r.CPU, r.Kernel, r.Go = "Some CPU", "6.1", "go1.26"
	r.Rows = []Row{
		{Scenario: "cpu", What: "a|b", Floor: Value(7.8), Subscriber: Value(8.2), Unit: "µs", Check: &Check{Value: 1.05, Limit: 1.15, Unit: "x floor"}},
		{Scenario: "cpu", What: "without a budget", Subscriber: Value(1)},
		{Scenario: "append", What: "singly", Check: &Check{Value: .2, Limit: .25, AtLeast: true}},
		{Scenario: "cpu", What: "  lost here", Check: &Check{Value: 3}},
		{Scenario: "cpu", What: "  not lost", Check: &Check{Value: 0}},
	}
	var b strings.Builder
	if err := r.Markdown(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`| a\|b | 7.80 µs | 8.20 µs | 1.05 x floor | ≤ 1.15 x floor | met |`, `| singly |  |  | 0.20 | ≥ 0.25 | **not met** |`,
		"Some CPU, Linux 6.1, go1.26.", "| – lost here |  |  | 3 | ≤ 0 | **not met** |", "no event was lost",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q lacks %q", &b, want)
		}
	}
	if text := b.String(); strings.Contains(text, "without a budget") || strings.Contains(text, "not lost") || strings.Contains(text, r.ID) || strings.Contains(text, r.Began.Format("2006")) {
		t.Errorf("too much: %q", text)
	}
}

func TestDisturbedMachine(t *testing.T) {
	for _, tt := range []struct {
		run  Run
		want string
	}{
		{Run{Load1: .5, Busy: .01, Stolen: .001}, ""},
		{Run{Load1: 1.5}, "load average before the run was 1.50"},
		{Run{Busy: .5}, "50 % busy"},
		{Run{Stolen: .02}, "2.0 % of their time was stolen"},
	} {
		if got := tt.run.Disturbed(); got != tt.want && (tt.want == "" || !strings.Contains(got, tt.want)) {
			t.Errorf("%+v: %q, want %q", tt.run, got, tt.want)
		}
		var b strings.Builder
		if err := tt.run.Table(&b); err != nil || strings.Contains(b.String(), "DISTURBED") != (tt.want != "") {
			t.Errorf("%v\n%s", err, &b)
		}
	}
	if got := Spread([]float64{3, 1, 2}); got != "1 to 3 in 3 trials" || Spread([]float64{1}) != "" {
		t.Error(got)
	}
}
