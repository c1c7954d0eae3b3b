//go:build !linux

package hub

import (
	"errors"
	"syscall"
	"time"
)

// Elsewhere every connection takes the ordinary way: a goroutine that writes.
const canWriteRaw = false

func tryWrite(syscall.RawConn, []byte) (int, error)  { return 0, errors.ErrUnsupported }
func waitWrite(syscall.RawConn, []byte) (int, error) { return 0, errors.ErrUnsupported }
func setUserTimeout(syscall.RawConn, time.Duration)  {}
