package reporter_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/runcast/runcast/internal/testenv"
)

func TestMain(m *testing.M) {
	if os.Getenv(workerEnv) != "" {
		if err := runChildWorker(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if code == 0 {
		if err := goleak.Find(testenv.AfterRedisWasAway()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
