// Package redislog puts the lines of the Redis client into a program's own
// log.
package redislog

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"
)

// Use sends the client's lines to logger, for the whole process. They are for
// debugging: it writes one for every attempt to connect, hundreds while Redis
// is away, and the programs say themselves that it is.
func Use(logger *slog.Logger) { redis.SetLogger(adapter{logger}) }

type adapter struct{ logger *slog.Logger }

// Printf is what the client calls.
func (a adapter) Printf(ctx context.Context, format string, args ...any) {
	if a.logger.Enabled(ctx, slog.LevelDebug) {
		a.logger.DebugContext(ctx, "the Redis client says", "text", fmt.Sprintf(format, args...))
	}
}
