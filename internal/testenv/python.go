package testenv

import (
	"os"
	"os/exec"
	"testing"
)

// Python returns the path of python3. Where it is not installed the test is
// skipped, but never on CI.
func Python(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("python3 is not installed; `make test` installs it")
	}
	t.Skip("python3 is not installed; `make test` installs it")
	return ""
}
