package hub

import (
	"slices"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

// Notice says that a sparse topic is followed, but not as well as it should
// be. Each viewer is told once, with a gap and the snapshot, and so is who
// comes before it is over.
type Notice struct {
	// Kind is [ReasonStale] or [ReasonDegraded].
	Kind Reason
	// Since is when it was last as it should be.
	Since time.Time
	// Detail says why, for people.
	Detail string
}

// pending is a notice that is not over, and its number, from 1.
type pending struct {
	Notice
	number uint32
}

// Notice tells a topic's viewers. As long as one of its kind is not over,
// another one is no news to them; who comes is told the newest detail. It never
// blocks.
func (h *Hub) Notice(name progress.Topic, n Notice) {
	t := h.topic(name)
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.IndexFunc(t.notices, func(p pending) bool { return p.Kind == n.Kind }); i >= 0 {
		t.notices[i].Detail = n.Detail
		return
	}
	t.told++
	t.notices = append(t.notices, pending{n, t.told})
	t.gen++ // every viewer is placed anew, and told
	t.changed = true
	t.signal()
}

// Resolve says that what a notice told is over: who comes from now on is not
// told. It never blocks.
func (h *Hub) Resolve(name progress.Topic, kind Reason) {
	if t := h.topic(name); t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.notices = slices.DeleteFunc(t.notices, func(p pending) bool { return p.Kind == kind })
	}
}

// untold returns the oldest notice that the viewer has not been told, or nil.
// The mutex is held.
func (t *topic) untold(v *viewer) *pending {
	for i := range t.notices {
		if t.notices[i].number > v.noticed {
			return &t.notices[i]
		}
	}
	return nil
}
