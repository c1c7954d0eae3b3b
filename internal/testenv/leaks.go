package testenv

import (
	"testing"

	"go.uber.org/goleak"
)

// AfterRedisWasAway leaves out the one goroutine that outlives a Redis
// client: where a server did not answer, the client's pool looks for it once
// a second, and notices that it was closed only after its sleep.
func AfterRedisWasAway() goleak.Option {
	return goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial")
}

// VerifyTestMain runs a package's tests and then looks for goroutines that
// nobody ended; for packages whose tests take Redis away.
func VerifyTestMain(m *testing.M) { goleak.VerifyTestMain(m, AfterRedisWasAway()) }
