package hub

import (
	"context"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

// comparePage is how many heads are asked for at once.
const comparePage = 500

// compareGrace is how long a message may be on its way before a topic that
// is behind the store counts as having lost it.
const compareGrace = 250 * time.Millisecond

// compareLoop finds what nothing else would: a lost last message leaves no
// hole, and a subscription on a detached replica answers every PING.
func (h *Hub) compareLoop() {
	tick := time.NewTicker(h.opts.CompareEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			h.compare(h.ctx)
		case <-h.ctx.Done():
			return
		}
	}
}

// compare has every workflow read whose head is not the store's. One whose
// head the store cannot tell has its turn at the next comparison.
func (h *Hub) compare(ctx context.Context) {
	defer h.metrics.Compares.Add(1)
	topics := h.comparable()
	for len(topics) > 0 && ctx.Err() == nil {
		page := topics[:min(len(topics), comparePage)]
		topics = topics[len(page):]
		ids := make([]string, len(page))
		for i, t := range page {
			ids[i] = t.name.Name
		}
		heads, err := h.heads(ctx, ids)
		if err != nil || len(heads) != len(ids) {
			if ctx.Err() == nil {
				h.metrics.ReadFailures.Add(1)
				h.opts.Logger.Warn("heads cannot be compared with the store", "error", err)
			}
			return
		}
		var behind []int
		for i, t := range page {
			if heads[i] != progress.UnknownPosition && !t.knows(heads[i]) {
				behind = append(behind, i)
			}
		}
		if len(behind) == 0 {
			continue
		}
		select {
		case <-time.After(compareGrace):
		case <-ctx.Done():
			return
		}
		for _, i := range behind {
			if t := page[i]; !t.knows(heads[i]) {
				h.metrics.HeadMismatches.Add(1)
				t.resync()
			}
		}
	}
}

func (h *Hub) heads(ctx context.Context, ids []string) ([]progress.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, h.opts.SourceTimeout)
	defer cancel()
	return h.source.Heads(ctx, ids)
}

// comparable returns the workflow topics that have been read.
func (h *Hub) comparable() []*topic {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var topics []*topic
	for name, t := range h.topics {
		select {
		case <-t.opened:
			if name.Kind == progress.TopicWorkflow {
				topics = append(topics, t)
			}
		default:
		}
	}
	return topics
}

// knows reports whether the head that the store told is the topic's, or one
// that the topic has passed on the same history.
func (t *topic) knows(pos progress.Position) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	head := t.ring.head()
	if pos.IsZero() || head.IsZero() {
		return pos == head
	}
	return pos.Epoch == head.Epoch && t.ring.checkAt(pos.Seq) == pos.Check
}
