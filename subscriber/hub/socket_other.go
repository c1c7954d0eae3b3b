//go:build !linux

package hub

import (
	"errors"
	"syscall"
	"time"
)

// Elsewhere every connection takes the ordinary way: a goroutine that writes.
const canWriteRaw = false

type attempt struct{}

func (*attempt) init() {}

func (*attempt) write(syscall.RawConn, []byte, bool) (int, error) { return 0, errors.ErrUnsupported }

func queued(syscall.RawConn) int { return 0 }

func tune(syscall.RawConn, time.Duration) {}
