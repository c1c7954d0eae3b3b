package subscriber_test

import (
	"path"
	"testing"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/redisstore"
)

// Streams are the same on a cluster and on the embedded Redis.
func TestOnOtherServers(t *testing.T) {
	for name, url := range map[string]func(*testing.T) string{
		"cluster":  func(t *testing.T) string { return testenv.Cluster(t).URL() },
		"embedded": func(t *testing.T) string { return "redis://" + testenv.Mini(t).Addr() },
	} {
		t.Run(name, func(t *testing.T) {
			store, err := redisstore.Open(t.Context(), url(t), redisstore.Options{Prefix: testenv.Prefix(t)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = store.Close() })
			n := startWith(t, nil, store)
			each(t, func(t *testing.T, open func(*node, string, string) client) {
				for _, id := range []string{"a", "b", "c", "d"} { // in several slots
					id += "-" + path.Base(t.Name())
					follow(t, n, id, open(n, id, ""))
				}
			})
		})
	}
}
