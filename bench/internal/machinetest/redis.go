// Package machinetest gives tests a Redis of their own.
package machinetest

import (
	"os"
	"os/exec"
	"testing"

	"github.com/runcast/runcast/bench/internal/machine"
)

// Redis starts a server and returns its address; it ends with the test. Where
// redis-server is missing the test fails; RUNCAST_TEST_SKIP_SERVERS skips it,
// but never on CI.
func Redis(t testing.TB) string {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("RUNCAST_TEST_SKIP_SERVERS") != "" && os.Getenv("CI") != "true" {
			t.Skip("redis-server is not installed, and RUNCAST_TEST_SKIP_SERVERS is set")
		}
		t.Fatal("redis-server is not installed; `make test` installs it, RUNCAST_TEST_SKIP_SERVERS=1 skips this test")
	}
	cores, err := machine.PickCores()
	if err != nil {
		t.Fatal(err)
	}
	p, addr, err := machine.Redis(t.Context(), cores.Load, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return addr
}
