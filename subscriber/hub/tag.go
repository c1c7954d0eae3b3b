package hub

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

// A tag topic carries summaries, the newest only. Its viewers are promised
// neither order nor completeness between two listings; the listing comes on
// connect and again every Options.RelistEvery.

// maxTagRecent is how many changes a slow viewer of a tag may be behind
// before it gets a new listing in their place.
const maxTagRecent = 256

// tagState is what a tag topic holds. It is guarded by the topic's mutex.
type tagState struct {
	// latest is the newest summary of each workflow, at most Options.TagLimit
	// of them after each reading.
	latest map[string]tagged
	// recent holds the newest changes; the first has number first.
	recent []tagChange
	first  int64
	// listings counts the readings.
	listings int64
}

type tagged struct {
	at   time.Time
	data []byte
}

type tagChange struct {
	data []byte
	enc  [encodings][]byte
}

// tagListing is the data of a tag's snapshot frame.
type tagListing struct {
	Workflows []json.RawMessage `json:"workflows"`
}

// acceptTag takes one change.
func (t *topic) acceptTag(m message) {
	var s progress.Summary
	if err := json.Unmarshal(m.data, &s); err != nil || s.WorkflowID == "" {
		t.hub.metrics.BadMessages.Add(1)
		return
	}
	g := &t.tag
	if known, ok := g.latest[s.WorkflowID]; ok && s.UpdatedAt.Before(known.at) {
		return
	}
	if _, ok := g.latest[s.WorkflowID]; !ok && len(g.latest) >= 2*t.hub.opts.TagLimit {
		t.stale = true // the next listing keeps the newest ones only
		return
	}
	data := oneLine(m.data)
	g.latest[s.WorkflowID] = tagged{at: s.UpdatedAt, data: data}
	g.recent = append(g.recent, tagChange{data: data})
	if over := len(g.recent) - maxTagRecent; over > 0 {
		g.recent = slices.Delete(g.recent, 0, over)
		g.first += int64(over)
	}
	t.changed = true
	t.arrived = append(t.arrived, arrival{received: m.received})
}

// readTag lists the tag's workflows.
func (t *topic) readTag(ctx context.Context) error {
	t.mu.Lock()
	t.stale, t.wanted = false, 0
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, t.hub.opts.SourceTimeout)
	defer cancel()
	list, err := t.hub.source.TagSummaries(ctx, t.name.Name, t.hub.opts.TagLimit)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.stale = true
		return err
	}
	t.hub.metrics.Reads.Add(1)
	g := &t.tag
	latest := make(map[string]tagged, len(list))
	for i := range list {
		s := &list[i]
		one := tagged{at: s.UpdatedAt, data: marshal(s)}
		if known, ok := g.latest[s.WorkflowID]; ok && known.at.After(one.at) {
			one = known
		}
		latest[s.WorkflowID] = one
	}
	g.latest = latest
	g.listings++
	t.gen++
	t.changed = true
	if !t.ready {
		t.ready = true
		close(t.opened)
	}
	return nil
}

// stepTag returns the viewer's next frame: a listing first, after each
// reading and when it fell behind; else the next change. The listing's count
// and the change's number travel in the viewer's position, which no client
// sees.
func (t *topic) stepTag(v *viewer) []byte {
	g := &t.tag
	next := g.first + int64(len(g.recent))
	if v.phase != live || v.gen != t.gen || v.pos.Seq < g.first {
		v.phase, v.gen, v.pos.Seq = live, t.gen, next
		return t.tagFrame(v.conn.enc, next)
	}
	if v.pos.Seq >= next {
		return nil
	}
	c := &g.recent[v.pos.Seq-g.first]
	v.pos.Seq++
	if c.enc[v.conn.enc] == nil {
		c.enc[v.conn.enc] = encodeFrame(v.conn.enc, t.name, KindUpdate, nil, c.data)
	}
	return c.enc[v.conn.enc]
}

func (t *topic) tagFrame(enc Encoding, next int64) []byte {
	return t.shared(&t.snapFrames[enc], progress.Position{Seq: next}, func(*progress.Position) []byte {
		all := make([]tagged, 0, len(t.tag.latest))
		for _, one := range t.tag.latest {
			all = append(all, one)
		}
		slices.SortFunc(all, func(a, b tagged) int {
			return cmp.Or(b.at.Compare(a.at), slices.Compare(a.data, b.data))
		})
		listing := tagListing{Workflows: []json.RawMessage{}}
		for _, one := range all[:min(len(all), t.hub.opts.TagLimit)] {
			listing.Workflows = append(listing.Workflows, one.data)
		}
		return encodeFrame(enc, t.name, KindSnapshot, nil, marshal(listing))
	})
}

// relistTimer fires when a tag is to be listed again; for a workflow, never.
func (t *topic) relistTimer() *time.Timer {
	timer := time.NewTimer(t.hub.opts.RelistEvery)
	if t.name.Kind != progress.TopicTag {
		timer.Stop()
	}
	return timer
}
