package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

// told makes frames of one stream for a terminal.
type told struct {
	t     *testing.T
	epoch int64
}

func (s told) data(value any) []byte {
	s.t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

// event fills in what all events of the stream have.
func (s told) event(seq int64, e progress.Event) progress.Event {
	e.Epoch, e.Seq, e.Check, e.WorkflowID = s.epoch, seq, fmt.Sprintf("%08x", seq), "w"
	if e.RunID == "" {
		e.RunID = "r"
	}
	e.Chain, e.Time = "r", time.Unix(seq, 0)
	return e
}

func (s told) output(seq int64, attempt int, text string) progress.Event {
	s.t.Helper()
	return s.event(seq, progress.Event{Type: progress.TypeOutput, Step: "s", Attempt: attempt, Data: s.data(text)})
}

func (s told) log(seq int64, text string) progress.Event {
	return s.event(seq, progress.Event{Type: progress.TypeLog, Message: text})
}

func (s told) update(e progress.Event) frame { return frame{kind: "update", data: s.data(e)} }

// snapshot shows the stream at seq, with an output of the attempt open since
// from (0: none), and its records.
func (s told) snapshot(seq, from int64, attempt int, records ...progress.Event) frame {
	snap := progress.Snapshot{
		V: 1, WorkflowID: "w", Epoch: s.epoch, Seq: seq, Check: fmt.Sprintf("%08x", seq),
		RunID: "r", Chain: "r", Status: progress.StatusRunning,
	}
	if from > 0 {
		snap.OutputFrom, snap.Outputs = from, []progress.Output{{Step: "s", From: from, Attempt: attempt}}
	}
	for _, e := range records {
		snap.Records = append(snap.Records, s.data(e))
	}
	return frame{kind: "snapshot", data: s.data(snap)}
}

// What a snapshot brings again is not printed again, and nothing that does
// not belong together comes on one line.
func TestTerminalPrintsEachRecordOnce(t *testing.T) {
	s := told{t, 1}
	gap := frame{kind: "gap", data: []byte(`{"from":"a","to":"b","reason":"slow"}`)}
	const said = "gap from a to b: slow\n"
	later := told{t, 2}
	for _, tt := range []struct {
		name   string
		frames []frame
		want   string // without the bar
	}{
		{
			"a gap within an open output", []frame{
				s.snapshot(2, 1, 1, s.output(1, 1, "line one\nHel"), s.output(2, 1, "lo wo")), gap,
				s.snapshot(5, 1, 1, s.output(1, 1, "line one\nHel"), s.output(2, 1, "lo wo"), s.log(3, "a log"), s.output(5, 1, "rld\n")),
			}, "line one\n" + said + "a log\nHello world\n",
		}, {
			"a gap that the output did not outlive", []frame{
				s.snapshot(1, 1, 1, s.output(1, 1, "Hello wo")), gap,
				s.snapshot(9, 0, 0), s.update(s.output(10, 1, "new\n")),
			}, said + "Hello wo\nnew\n",
		}, {
			"records that do not reach back", []frame{
				s.snapshot(1, 1, 1, s.output(1, 1, "Hello wo")), gap,
				s.snapshot(9, 1, 1, s.output(8, 1, "end\n")),
			}, said + "Hello wo\nend\n",
		}, {
			"another attempt behind a gap", []frame{
				s.snapshot(1, 1, 1, s.output(1, 1, "Hello wo")), gap,
				s.snapshot(4, 3, 2, s.output(3, 2, "Hello again\n")),
			}, said + "Hello wo\nHello again\n",
		}, {
			"a stream that was lost", []frame{
				s.snapshot(7, 6, 1, s.output(6, 1, "Hello wo")), gap,
				later.snapshot(2, 1, 1, later.output(1, 1, "from the start\n")),
			}, said + "Hello wo\nfrom the start\n",
		}, {
			"another attempt", []frame{
				s.snapshot(0, 0, 0), s.update(s.output(1, 1, "Hello wo")), s.update(s.output(2, 2, "Hello again\n")),
			}, "Hello wo\nHello again\n",
		}, {
			"another run", []frame{
				s.snapshot(0, 0, 0), s.update(s.output(1, 1, "Hello wo")),
				s.update(s.event(2, progress.Event{Type: progress.TypeOutput, Step: "s", Attempt: 1, RunID: "r2", Data: s.data("Hello again\n")})),
			}, "Hello wo\nHello again\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			term := &terminal{w: &out, width: func() int { return 80 }, workflow: "w", now: time.Now}
			for _, f := range tt.frames {
				if err := term.frame(f); err != nil {
					t.Fatal(err)
				}
			}
			got := screen(out.String())
			if got = got[:strings.LastIndexByte(got, '\n')+1]; got != tt.want {
				t.Errorf("the screen shows\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}
