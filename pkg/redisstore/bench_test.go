package redisstore_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// BenchmarkAppend compares appends with a client that pipelines the three
// commands that the same event needs at least. Compare events/s within one
// run.
func BenchmarkAppend(b *testing.B) {
	c := redis.NewClient(&redis.Options{Addr: testenv.Redis(b).Addr})
	defer c.Close()
	s := redisstore.New(c, redisstore.Options{Prefix: testenv.Prefix(b)})
	defer s.Close()
	var names atomic.Int64
	percent := 12.5
	make1 := func(id string) progress.Event {
		return event(id, "r", progress.TypeProgress, func(e *progress.Event) { e.Percent, e.Message = &percent, "packing the boxes" })
	}
	for _, size := range []int{1, 10} {
		b.Run(fmt.Sprint("floor/", size), func(b *testing.B) {
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				id := fmt.Sprint("floor-", names.Add(1))
				e := make1(id)
				body, _ := e.AppendBody(nil)
				for pb.Next() {
					p := c.Pipeline()
					for range size {
						p.HSet(b.Context(), "{"+id+"}", "percent", "12.5", "message", e.Message, "seq", "1", "check", "12345678", "updated_at", "2026-11-23T01:02:03.456789Z")
						p.XAdd(b.Context(), &redis.XAddArgs{Stream: "{" + id + "}:e", MaxLen: 1000, Approx: true, Values: []any{"e", body}})
						p.Publish(b.Context(), "{"+id+"}:u", body)
					}
					if _, err := p.Exec(b.Context()); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(size)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
		b.Run(fmt.Sprint("append/", size), func(b *testing.B) {
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				id := fmt.Sprint("append-", names.Add(1))
				events := make([]progress.Event, size)
				for i := range events {
					events[i] = make1(id)
				}
				for n := int64(1); pb.Next(); n += int64(size) {
					if _, err := s.Append(b.Context(), numbered(n, events...)); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(size)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
