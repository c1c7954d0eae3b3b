package arm

import (
	"context"
	"sync"
	"time"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/strategy"
)

// Watches has each viewer watch by itself.
func Watches(s strategy.Strategy) Follow {
	return func(ctx context.Context, runs []string, viewers []*Viewer, spread time.Duration) error {
		var all sync.WaitGroup
		begin := time.Now()
		for i, v := range viewers {
			all.Go(func() {
				if !Await(ctx, begin, spread, i, len(viewers)) {
					return
				}
				v.From = time.Now()
				for e, err := range s.Watch(ctx, runs[v.Run], progress.Position{}) {
					v.take(ctx, &e, err)
				}
				v.To = time.Now()
			})
		}
		all.Wait()
		return nil
	}
}
