package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/runcast/runcast/pkg/progress"
)

// line is the last line of a step's output while it has no end.
type line struct {
	strings.Builder
	run     string
	attempt int
}

// snapshot takes a state over, and prints those of its records that are not
// printed yet: it comes at the beginning, and again behind every gap.
func (t *terminal) snapshot(s *progress.Snapshot) error {
	var records []progress.Event
	for _, record := range s.Records {
		var e progress.Event
		if err := json.Unmarshal(record, &e); err != nil {
			return fmt.Errorf("read a record: %w", err)
		}
		records = append(records, e)
	}
	seen := t.state.Seq
	if s.Epoch != t.state.Epoch {
		seen = 0
	}
	whole := len(records) > 0 && records[0].Seq <= seen+1
	for _, step := range slices.Sorted(maps.Keys(t.text)) {
		l := t.text[step]
		goesOn := slices.ContainsFunc(s.Outputs, func(o progress.Output) bool {
			return o.Step == step && o.Attempt == l.attempt && o.From <= seen
		})
		if whole && goesOn && l.run == s.RunID {
			continue
		}
		// What followed it is missing: the next text is no end of this line.
		if err := t.flush(step); err != nil {
			return err
		}
	}
	t.state, t.known = *s, true
	for i := range records {
		if records[i].Seq <= seen {
			continue
		}
		if err := t.record(&records[i]); err != nil {
			return err
		}
	}
	return nil
}

// record prints a log line, or the whole lines of an output.
func (t *terminal) record(e *progress.Event) error {
	switch e.Type {
	case progress.TypeLog:
		if e.Step != "" {
			return t.above(e.Step + ": " + e.Message)
		}
		return t.above(e.Message)
	case progress.TypeOutput:
		var piece string
		if err := json.Unmarshal(e.Data, &piece); err != nil {
			return fmt.Errorf("read an output: %w", err)
		}
		return t.write(e, piece)
	}
	return nil
}

// write adds a piece to its step's output. Another attempt, or run, begins on
// a line of its own.
func (t *terminal) write(e *progress.Event, piece string) error {
	open := t.text[e.Step]
	if open != nil && (open.attempt != e.Attempt || open.run != e.RunID) {
		if err := t.flush(e.Step); err != nil {
			return err
		}
		open = nil
	}
	if open == nil {
		open = &line{run: e.RunID, attempt: e.Attempt}
		if t.text == nil {
			t.text = make(map[string]*line)
		}
		t.text[e.Step] = open
	}
	open.WriteString(piece)
	const longest = 4 << 10 // of a line without an end
	text := open.String()
	cut := strings.LastIndexByte(text, '\n')
	if cut < 0 && len(text) < longest {
		return nil
	}
	open.Reset()
	if cut < 0 {
		return t.above(text)
	}
	open.WriteString(text[cut+1:])
	return t.above(strings.Split(text[:cut], "\n")...)
}

// flush prints what an output has on its unfinished line.
func (t *terminal) flush(step string) error {
	open := t.text[step]
	delete(t.text, step)
	if open == nil || open.Len() == 0 {
		return nil
	}
	return t.above(open.String())
}

func (t *terminal) flushAll() error {
	for _, step := range slices.Sorted(maps.Keys(t.text)) {
		if err := t.flush(step); err != nil {
			return err
		}
	}
	return nil
}
