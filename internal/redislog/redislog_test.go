package redislog_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/internal/redislog"
)

// A Redis that is away is no news at the usual level, however often it is
// tried, and all of it is there for who looks.
func TestUse(t *testing.T) {
	for _, level := range []slog.Level{slog.LevelInfo, slog.LevelDebug} {
		var log bytes.Buffer
		redislog.Use(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level})))
		c := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, PoolSize: 1})
		if err := c.Ping(t.Context()).Err(); err == nil {
			t.Fatal("there is a Redis on port 1")
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if said := strings.Contains(log.String(), "failed to dial"); said != (level == slog.LevelDebug) {
			t.Errorf("at %v the log is %q", level, &log)
		}
	}
}
