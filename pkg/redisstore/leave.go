package redisstore

import (
	"context"
	_ "embed" // leave.lua
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/progress"
)

//go:embed leave.lua
var leaveSource string

var leaveScript = redis.NewScript(leaveSource)

// Leave says that a producer has written its last event, so that it gives way
// when the bound is reached. Call it after the last append was acknowledged.
// Until then a late copy of what it wrote is still known for one. A producer
// without Started, Attempt and Nonce is forgotten at once, and may begin again
// with number 1. Leave may be called again, and does nothing to a later
// execution of the same name.
func (s *Store) Leave(ctx context.Context, workflowID string, p Producer) error {
	if err := progress.CheckWorkflowID(workflowID); err != nil {
		return err
	}
	if p.Name == "" {
		return fmt.Errorf("%w: a producer without a name", progress.ErrInvalid)
	}
	keys := []string{s.keys.workflow(workflowID).producers}
	return s.classify("leave", leaveScript.Run(ctx, s.client, keys, leaveArgs(p)...).Err())
}

func leaveArgs(p Producer) []any {
	return []any{EncodeID(p.Name), unixMilli(p.Started), max(p.Attempt, 0), nonce(p.Nonce)}
}
