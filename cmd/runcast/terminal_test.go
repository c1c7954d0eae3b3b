package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

// screen plays what a terminal would show: the lines at the end.
func screen(out string) string {
	var lines []string
	for _, line := range strings.Split(out, "\n") {
		parts := strings.Split(line, clearLine)
		lines = append(lines, strings.TrimRight(parts[len(parts)-1], " "))
	}
	return strings.Join(lines, "\n")
}

func TestWatchDrawsABar(t *testing.T) {
	_, server := serve(t, sends(strings.Join(run42(progress.StatusFailed, "card declined"), "")))
	code, out, errs := invoke(t, 79, "watch", "order-42", "--subscriber-url", server)
	if code != 1 || errs != "" {
		t.Errorf("exit %d, stderr %q", code, errs)
	}
	want := `pack: label  [31mred
first line
second
pack: completed
[############............]  50 %  0:06  failed, pack, half
order-42 failed in 6.0 s: card declined
`
	if got := screen(out); got != want {
		t.Errorf("the screen shows\n%s\nwant\n%s", got, want)
	}
	if strings.Contains(strings.ReplaceAll(out, clearLine, ""), "\x1b") {
		t.Errorf("text from outside reached the terminal as a command: %q", out)
	}
}

func TestTerminalBar(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	float := func(f float64) *float64 { return &f }
	count := func(n int64) *int64 { return &n }
	for _, tt := range []struct {
		name  string
		state progress.Snapshot
		want  string
	}{
		{"nothing yet", progress.Snapshot{}, "[........................]        waiting for order-42"},
		{"queued", progress.Snapshot{Seq: 1, Status: progress.StatusQueued, StartedAt: start}, "[........................]        1:05  queued"},
		{"running", progress.Snapshot{Seq: 2, Status: progress.StatusRunning, StartedAt: start}, "[........................]        1:05  running"},
		{"counting", progress.Snapshot{Seq: 2, Status: progress.StatusRunning, StartedAt: start, Step: "pack", Current: count(3), Total: count(4)}, "[##################......]  75 %  1:05  pack, 3 of 4"},
		{"almost", progress.Snapshot{Seq: 2, Status: progress.StatusRunning, StartedAt: start, Percent: float(99.9), Message: "m"}, "[#######################.]  99 %  1:05  m"},
		{"completed", progress.Snapshot{Seq: 9, Status: progress.StatusCompleted, StartedAt: start, ClosedAt: start.Add(2 * time.Minute)}, "[########################] 100 %  2:00  completed"},
		{"terminated", progress.Snapshot{Seq: 9, Status: progress.StatusTerminated, StartedAt: start, ClosedAt: start, Percent: float(10)}, "[##......................]  10 %  0:00  terminated"},
		{"long", progress.Snapshot{Seq: 2, Status: progress.StatusRunning, StartedAt: start, Message: strings.Repeat("é", 100)}, "[........................]        1:05  " + strings.Repeat("é", 19) + "~"},
	} {
		term := &terminal{workflow: "order-42", state: tt.state, known: true, now: func() time.Time { return start.Add(65 * time.Second) }}
		if got := term.bar(60); got != tt.want {
			t.Errorf("%s:\n%q, want\n%q", tt.name, got, tt.want)
		}
	}
}

func TestTerminalGoesOnFromAPosition(t *testing.T) {
	var out strings.Builder
	term := &terminal{w: &out, width: func() int { return 80 }, workflow: "w", now: time.Now}
	percent := 70.0
	event, err := json.Marshal(progress.Event{
		Epoch: 1, Seq: 7, Check: "00000007", WorkflowID: "w", RunID: "r", Chain: "r",
		Type: progress.TypeProgress, Percent: &percent, Message: "on", Time: time.Now(), Lost: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []frame{
		{kind: "gap", data: []byte(`{"from":"1-2-00000002","to":"1-6-00000006","reason":"trimmed"}`)},
		{kind: "update", id: "1-7-00000007", data: event},
	} {
		if err := term.frame(f); err != nil {
			t.Fatal(err)
		}
	}
	want := "gap from 1-2-00000002 to 1-6-00000006: trimmed\n2 events before this one were lost by their writer\n[################........]  70 %  on"
	if got := screen(out.String()); got != want {
		t.Errorf("the screen shows\n%s\nwant\n%s", got, want)
	}
}

func FuzzSSEReader(f *testing.F) {
	f.Add("event: update\nid: 1\ndata: {}\n\n")
	f.Add(": c\r\ndata\ndata: a\ndata:b\r\n\nretry: 10\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		r := newSSEReader(strings.NewReader(text), func() {})
		for {
			frame, err := r.next()
			if err != nil {
				return
			}
			if strings.ContainsAny(frame.kind+frame.id, "\n") {
				t.Errorf("a field holds a line end: %+v", frame)
			}
		}
	})
}
