package testenv_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/runcast/runcast/internal/testenv"
)

// A missing server is a failure, on CI whatever else is set: a test that
// leaves itself out there proves nothing. This test runs itself as a child on
// a machine that has no programs at all.
func TestMissingServerIsAFailureOnCI(t *testing.T) {
	const child = "TESTENV_CHILD"
	if os.Getenv(child) != "" {
		testenv.NewRedis(t, testenv.RedisOptions{})
		return
	}
	for _, tt := range []struct {
		name string
		env  []string
		ok   bool
		says string
	}{
		{"on CI", []string{"CI=true"}, false, "`make test` installs it"},
		{"on CI, told to skip", []string{"CI=true", "RUNCAST_TEST_SKIP_SERVERS=1"}, false, "`make test` installs it"},
		{"at home", nil, false, "RUNCAST_TEST_SKIP_SERVERS=1 skips"},
		{"at home, told to skip", []string{"RUNCAST_TEST_SKIP_SERVERS=1"}, true, "--- SKIP"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMissingServerIsAFailureOnCI$", "-test.v")
			cmd.Env = append([]string{"PATH=", child + "=1"}, tt.env...)
			out, err := cmd.CombinedOutput()
			if (err == nil) != tt.ok || !strings.Contains(string(out), tt.says) {
				t.Errorf("%v, want success: %v and %q in\n%s", err, tt.ok, tt.says, out)
			}
		})
	}
}
