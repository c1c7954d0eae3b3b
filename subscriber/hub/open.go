package hub

import (
	"context"

	"github.com/runcast/runcast/pkg/progress"
)

// Handle holds a topic without viewing it, from [Hub.Open] until Release.
type Handle struct {
	t *topic
}

// Open begins a topic, or joins it, and waits until it has been read once or
// ctx ends, whichever is first.
func (h *Hub) Open(ctx context.Context, name progress.Topic) Handle {
	t := h.acquire(name)
	select {
	case <-t.opened:
	case <-ctx.Done():
	}
	return Handle{t}
}

// Ready reports whether the topic has been read.
func (h Handle) Ready() bool {
	select {
	case <-h.t.opened:
		return true
	default:
		return false
	}
}

// Empty reports that the topic has been read, and nothing is known of it: the
// source had nothing, and nothing has come since.
func (h Handle) Empty() bool {
	h.t.mu.Lock()
	defer h.t.mu.Unlock()
	return h.t.ready && h.t.ring.head().Seq == 0
}

// AtEnd reports whether pos is exactly the end of the newest chain, which
// has closed and is one that a viewer of run (empty: of any) waits for. Such
// a viewer has everything: there is nothing to stream. The stream is read to
// make sure that no later chain has begun; all who ask at once share that
// reading. When ctx ends before, the answer is no.
func (h Handle) AtEnd(ctx context.Context, pos progress.Position, run string) bool {
	t := h.t
	v := viewer{want: Want{Run: run}}
	t.mu.Lock()
	defer t.mu.Unlock()
	need := t.begun + 1
	for {
		end, known := t.resolveEnd(pos, &v)
		if known && (!end || t.finished >= need) {
			return end
		}
		if known {
			t.doubt()
		}
		merged := t.merged
		t.mu.Unlock()
		select {
		case <-merged:
		case <-ctx.Done():
		}
		t.mu.Lock()
		if ctx.Err() != nil {
			return false
		}
	}
}

// Release gives the topic back. It is called once.
func (h Handle) Release() { h.t.hub.release(h.t) }
