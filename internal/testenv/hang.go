package testenv

import (
	"strconv"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Hang stops the server's process where it is, as a host that swaps would: it
// keeps its connections and its data, and answers nothing. It goes on with
// the returned function, or at the end of the test.
func (s *RedisServer) Hang(t testing.TB) (goOn func()) {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.Addr})
	defer c.Close()
	info, err := c.InfoMap(t.Context(), "server").Result()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(info["Server"]["process_id"])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	goOn = func() { _ = syscall.Kill(pid, syscall.SIGCONT) }
	t.Cleanup(goOn)
	return goOn
}
