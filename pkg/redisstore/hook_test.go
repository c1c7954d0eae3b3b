package redisstore_test

import (
	"context"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/redisstore"
)

// hook sees what a client is about to send, a pipeline at a time; nil fields
// do nothing. Add it with AddHook.
type hook struct {
	before func(cmds []redis.Cmder)
	// instead runs a pipeline in place of next.
	instead func(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error
}

func (h *hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if h.before != nil {
			h.before([]redis.Cmder{cmd})
		}
		return next(ctx, cmd)
	}
}

func (h *hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if h.before != nil {
			h.before(cmds)
		}
		if h.instead != nil {
			return h.instead(ctx, cmds, next)
		}
		return next(ctx, cmds)
	}
}

// mentions reports whether one of the commands has an argument with the text.
func mentions(cmds []redis.Cmder, text string) bool {
	for _, cmd := range cmds {
		for _, arg := range cmd.Args() {
			if s, ok := arg.(string); ok && strings.Contains(s, text) {
				return true
			}
		}
	}
	return false
}

// another returns a store of another process on the same server.
func (h *harness) another(t testing.TB, o redisstore.Options) *redisstore.Store {
	t.Helper()
	var c redis.UniversalClient
	switch own := h.client.(type) {
	case *redis.ClusterClient:
		o := *own.Options()
		c = redis.NewClusterClient(&o)
	case *redis.Client:
		o := *own.Options()
		o.PushNotificationProcessor = nil // a client has its own
		c = redis.NewClient(&o)
	}
	o.Prefix = h.prefix
	s := redisstore.New(c, o)
	t.Cleanup(func() {
		s.Close()
		c.Close()
	})
	return s
}
