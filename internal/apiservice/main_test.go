package apiservice

import (
	"testing"

	"github.com/runcast/runcast/internal/testenv"
)

func TestMain(m *testing.M) { testenv.VerifyTestMain(m) }
