package hub

import (
	"context"

	"github.com/runcast/runcast/pkg/progress"
)

// Source is what feeds a hub. Its methods may block until their context ends.
//
// The source calls [Hub.Message] and [Hub.Resync] for the topics that were
// added; both return at once.
//
// The seqs of a sparse source (see [Options.Sparse]) are versions: each event
// carries the whole state, so they may jump. The epoch says when the run
// began, in Unix ms: positions rise by epoch, then by seq. A Read returns the
// snapshot and at most the event that it ends with; Heads and TagSummaries are
// not called. Beside, the source may call [Hub.Notice] and [Hub.Resolve].
type Source interface {
	// Add subscribes to a topic and returns once the subscription is
	// confirmed: whatever is published from then on is passed to the hub, or
	// followed by a Resync.
	Add(ctx context.Context, t progress.Topic) error
	// Remove ends the subscription.
	Remove(t progress.Topic)
	// Read returns one consistent reading: the snapshot, and up to limit
	// events with seq ≥ from, the oldest first. From above the newest event
	// returns the snapshot alone. The zero View means that there is no such
	// workflow.
	Read(ctx context.Context, id string, from int64, limit int) (progress.View, error)
	// Heads returns the newest position of each workflow, zero where there
	// is none, and [progress.UnknownPosition] where it cannot be told. It asks
	// the servers that take the writes.
	Heads(ctx context.Context, ids []string) ([]progress.Position, error)
	// TagSummaries returns up to limit workflows under a tag, the newest
	// change first.
	TagSummaries(ctx context.Context, tag string, limit int) ([]progress.Summary, error)
}
