package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/runcast/runcast/cmd/dev/internal/redisurl"
	"github.com/runcast/runcast/internal/redischeck"
	"github.com/runcast/runcast/pkg/redisstore"
)

// awaitRedis returns once the Redis at url has answered, or why it is none
// that can be used. It says on out that it waits.
func awaitRedis(ctx context.Context, url string, out io.Writer) error {
	var once sync.Once
	say := func() {
		once.Do(func() {
			fmt.Fprintf(out, "Waiting for Redis at %s (REDIS_URL). Ctrl-C stops.\n", redisurl.Address(url))
		})
	}
	// The client tries for seconds before it says that nothing is there.
	soon := time.AfterFunc(time.Second, say)
	defer once.Do(func() {}) // so that it is not said any more after this
	defer soon.Stop()
	store, err := redisstore.Open(ctx, url, redisstore.Options{})
	if err != nil {
		return fmt.Errorf("REDIS_URL: %w", err)
	}
	defer store.Close() // nothing was written
	return redischeck.Await(ctx, store, func(error) { say() })
}
