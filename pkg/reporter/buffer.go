package reporter

import (
	"encoding/json"

	"github.com/runcast/runcast/pkg/progress"
)

// buffer holds the reports of one activity until they are written, in order.
// Newer state of the same thing takes the older one's place, and output is
// joined, unless that would move a step's end past the step's output.
// Records are bounded in number and everything in bytes; state of known
// things is always taken, since it is bounded by their number.
type buffer struct {
	entries              []entry
	bytes, records       int
	recordsMax, bytesMax int
	// refused counts what did not fit since it was last asked for.
	refused int64

	// taken is how many entries were taken before entries[0]; the places below
	// count from the first ever.
	taken int
	// run is the place of the last progress of the whole run, plus 1.
	run   int
	steps map[string]*places
}

type entry struct {
	event progress.Event
	// text is an output's; its event has no data yet.
	text string
	size int
}

// places says where the last entries of one step are, plus 1; 0 is nowhere.
type places struct {
	state, output int
	// end is the last log line or end of the step, which output stays behind.
	end int
}

// overhead is what an event weighs beside its text.
const overhead = 200

// end returns how many entries there have ever been.
func (b *buffer) end() int { return b.taken + len(b.entries) }

// at returns the entry at the place, or nil if it has been taken.
func (b *buffer) at(place int) *entry {
	if i := place - 1 - b.taken; i >= 0 {
		return &b.entries[i]
	}
	return nil
}

func (b *buffer) step(name string) *places {
	p := b.steps[name]
	if p == nil {
		if b.steps == nil {
			b.steps = make(map[string]*places)
		}
		p = new(places)
		b.steps[name] = p
	}
	return p
}

// push adds an entry and returns its place, plus 1.
func (b *buffer) push(e entry) int {
	b.entries = append(b.entries, e)
	b.bytes += e.size
	return b.end()
}

// addState takes over an event that carries a whole state. It reports whether
// an older one was replaced. A step's end goes behind the step's output, which
// it closes.
func (b *buffer) addState(e progress.Event) (merged bool) {
	p := &places{state: b.run}
	if e.Type == progress.TypeStep {
		p = b.step(e.Step)
	}
	old := b.at(p.state)
	if old != nil && p.output > p.state && (e.Status.IsTerminal() || old.event.Status.IsTerminal()) {
		old = nil
	}
	if old != nil && old.event.WorkflowType != "" && e.Status.IsTerminal() {
		old = nil // that an attempt has begun is said, however short it was
	}
	size := overhead + len(e.Step) + len(e.Message) + len(e.Error)
	if old != nil {
		if e.WorkflowType == "" {
			e.WorkflowType = old.event.WorkflowType
		}
		if e.Tags == nil {
			e.Tags = old.event.Tags
		}
		b.bytes += size - old.size
		old.event, old.size = e, size
	} else {
		p.state = b.push(entry{event: e, size: size})
	}
	if e.Status.IsTerminal() {
		p.end = p.state
	}
	if e.Type != progress.TypeStep {
		b.run = p.state
	}
	return old != nil
}

// addLog takes over a line of log. False: there is no room for it.
func (b *buffer) addLog(e progress.Event) bool {
	size := overhead + len(e.Step) + len(e.Message)
	if !b.room(size) {
		b.refused++
		return false
	}
	b.records++
	b.step(e.Step).end = b.push(entry{event: e, size: size})
	return true
}

// addOutput takes over a piece of output, joined to the last one of the same
// step where no log or end of this step lies between them. False: there is no
// room.
func (b *buffer) addOutput(e progress.Event, text string) (merged, ok bool) {
	p := b.step(e.Step)
	old := b.at(p.output)
	if old != nil && p.end < p.output && b.refused == 0 && len(old.text)+len(text) <= pieceMax && b.bytes+len(text) <= b.bytesMax {
		old.text += text
		old.size += len(text)
		b.bytes += len(text)
		return true, true
	}
	size := overhead + len(e.Step) + len(text)
	if !b.room(size) {
		b.refused++
		return false, false
	}
	b.records++
	p.output = b.push(entry{event: e, text: text, size: size})
	return false, true
}

// room reports whether a record fits. Once one did not, none does until the
// buffer has been emptied: so what is missing is missing in one place, which
// the next event's lost names.
func (b *buffer) room(size int) bool {
	return b.refused == 0 && b.records < b.recordsMax && b.bytes+size <= b.bytesMax
}

// take removes at most n events, or about bytes of them, and returns them.
func (b *buffer) take(n, bytes int) []progress.Event {
	var events []progress.Event
	i := 0
	for ; i < len(b.entries) && i < n && (i == 0 || bytes >= b.entries[i].size); i++ {
		e := &b.entries[i]
		bytes -= e.size
		b.bytes -= e.size
		switch e.event.Type {
		case progress.TypeOutput:
			// A string always has a JSON form.
			e.event.Data, _ = json.Marshal(e.text)
			b.records--
		case progress.TypeLog:
			b.records--
		}
		events = append(events, e.event)
	}
	rest := copy(b.entries, b.entries[i:])
	clear(b.entries[rest:])
	b.entries = b.entries[:rest]
	b.taken += i
	if rest == 0 {
		clear(b.steps) // all places are in the past
	}
	return events
}

// drop forgets everything, and returns how many events it was. What did not
// fit has been counted before.
func (b *buffer) drop() int64 {
	n := len(b.entries)
	*b = buffer{recordsMax: b.recordsMax, bytesMax: b.bytesMax}
	return int64(n)
}
