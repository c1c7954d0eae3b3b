// Package strategy follows workflows in the six ways that there are, behind
// one interface: by polling (poll, adaptive), by a Temporal Update that waits
// (update), by signal and notification (signal), by webhook (push), and by
// Redis (redis). The others know no Redis but for what their deliveries need.
package strategy

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/progress"
)

// The names of the strategies, in the order in which they are listed.
const (
	Poll     = "poll"
	Adaptive = "adaptive"
	Update   = "update"
	Signal   = handlers.SignalStrategy
	Push     = handlers.PushStrategy
	Redis    = "redis"
)

// Names lists the strategies.
func Names() []string { return []string{Poll, Adaptive, Update, Signal, Push, Redis} }

// Strategy is one way to follow a workflow.
type Strategy interface {
	// Watch yields what happens to a workflow after a position, the oldest
	// first: each event but those of [Redis] carries the whole state, and its
	// seq is the version, which may jump. The zero position begins with the
	// state as it is. A closed event is the last, once; then the sequence
	// ends. Behind a closed event it ends at once, unless a later chain has
	// begun.
	//
	// A [Notice] is no end. Every other error is: [progress.ErrNotFound] for a
	// workflow that Temporal does not know, [ErrNoHandlers] for one that cannot
	// be followed this way, the context's when it ends. All calls are over
	// when the sequence has ended.
	Watch(ctx context.Context, workflowID string, after progress.Position) iter.Seq2[progress.Event, error]
}

// Notice tells that a sequence goes on, but not as well as it should.
type Notice struct {
	// Kind is "stale" (no worker answers; the state is that of Since),
	// "degraded" (another strategy goes on in its place), "live" (it is neither
	// any more; one that still is comes again behind it), or, of redis only,
	// "gap" (events were lost: what follows does not join what came before).
	Kind string
	// Since is when it was last as it should be, of live since when it is
	// again.
	Since time.Time
	// Reason says why, for viewers: it names no address.
	Reason string
	// Cause is what was behind it, for those who run the service; or nil.
	Cause error
}

// The kinds of [Notice].
const (
	Stale    = "stale"
	Degraded = "degraded"
	Live     = "live"
	Gap      = "gap"
)

func (n *Notice) Error() string {
	text := fmt.Sprintf("%s since %s: %s", n.Kind, n.Since.UTC().Format(time.RFC3339), n.Reason)
	if n.Cause != nil {
		text += ": " + bounded(n.Cause.Error())
	}
	return text
}
