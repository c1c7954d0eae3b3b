package reporter

import (
	"context"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// Store is what a reporter needs of a store; [redisstore.Store] has it.
type Store interface {
	// Append writes events, or refuses them with one of the errors of package
	// progress.
	Append(ctx context.Context, a redisstore.Append) (redisstore.Result, error)
	// Leave notes that the producer has written its last event.
	Leave(ctx context.Context, workflowID string, p redisstore.Producer) error
	// Snapshot returns the workflow's state, or progress.ErrNotFound.
	Snapshot(ctx context.Context, workflowID string) (progress.Snapshot, error)
}

var _ Store = (*redisstore.Store)(nil)
