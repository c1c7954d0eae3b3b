package embedded

import (
	"context"
	"log/slog"

	"go.temporal.io/server/common/log/tag"
)

// serverLogger passes the Temporal server's errors on to slog. Everything
// else that it says is about its own insides.
type serverLogger struct{ to *slog.Logger }

func (serverLogger) Debug(string, ...tag.Tag) {}
func (serverLogger) Info(string, ...tag.Tag)  {}
func (serverLogger) Warn(string, ...tag.Tag)  {}

func (l serverLogger) Error(msg string, tags ...tag.Tag)  { l.log(msg, tags) }
func (l serverLogger) DPanic(msg string, tags ...tag.Tag) { l.log(msg, tags) }

// Panic and Fatal do not stop the process: that is for main to decide.
func (l serverLogger) Panic(msg string, tags ...tag.Tag) { l.log(msg, tags) }
func (l serverLogger) Fatal(msg string, tags ...tag.Tag) { l.log(msg, tags) }

// SLog lets the server's parts that use slog themselves log here too.
func (l serverLogger) SLog() *slog.Logger { return l.to }

func (l serverLogger) log(msg string, tags []tag.Tag) {
	attrs := make([]slog.Attr, len(tags))
	for i, t := range tags {
		attrs[i] = slog.Any(t.Key(), t.Value())
	}
	l.to.LogAttrs(context.Background(), slog.LevelError, msg, attrs...)
}
