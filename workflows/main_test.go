package workflows_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(mortal); text != "" {
		fmt.Fprintln(os.Stderr, runMortal(text))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}
