package progress

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Position names a place in a workflow's stream: right after the event with
// this epoch, seq and check. The zero value is the empty stream. Clients
// treat its text as opaque.
//
// Seq alone would not do: after Redis lost data a stream may start anew
// (another epoch) or go on with other events under the same numbers (another
// check). Going on from such a position would skip or repeat silently.
type Position struct {
	Epoch int64
	Seq   int64
	Check string
}

// UnknownPosition says that a place could not be found out, which is not that
// the stream is empty. It has no text: [ParsePosition] refuses what String
// makes of it.
var UnknownPosition = Position{Seq: -1}

// maxExact is the largest integer that every JSON reader and Redis' Lua
// (both use doubles) hold exactly.
const maxExact = 1<<53 - 1

// IsZero reports whether p is the empty stream.
func (p Position) IsZero() bool { return p == Position{} }

// String returns "<epoch>-<seq>-<check>", or "0-0" for the empty stream. A
// position without a check, as those of versions are, is "<epoch>-<seq>".
func (p Position) String() string {
	return string(p.Append(nil))
}

// Append appends the text of p to dst.
func (p Position) Append(dst []byte) []byte {
	if p.IsZero() {
		return append(dst, "0-0"...)
	}
	dst = strconv.AppendInt(dst, p.Epoch, 10)
	dst = append(dst, '-')
	dst = strconv.AppendInt(dst, p.Seq, 10)
	if p.Check == "" {
		return dst
	}
	dst = append(dst, '-')
	return append(dst, p.Check...)
}

// ParseVersion reads the position of a version: when its run started, in Unix
// ms, and the version. "0-0" is before any. Anything but the exact form that
// String writes is an error that wraps [ErrBadPosition].
func ParseVersion(text string) (Position, error) {
	if text == "0-0" {
		return Position{}, nil
	}
	started, version, ok := strings.Cut(text, "-")
	if !ok {
		return Position{}, badPosition(text, "it is not <start of the run>-<version>")
	}
	s, ok1 := parseCount(started)
	v, ok2 := parseCount(version)
	if !ok1 || !ok2 {
		return Position{}, badPosition(text, "the start of its run or its version is not a positive number")
	}
	return Position{Epoch: s, Seq: v}, nil
}

// ParsePosition reads the text of a position. Anything but the exact form
// that String writes is an error that wraps [ErrBadPosition].
func ParsePosition(text string) (Position, error) {
	if text == "0-0" {
		return Position{}, nil
	}
	epoch, rest, ok1 := strings.Cut(text, "-")
	seq, check, ok2 := strings.Cut(rest, "-")
	if !ok1 || !ok2 {
		return Position{}, badPosition(text, "it is not <epoch>-<seq>-<check>")
	}
	e, ok := parseCount(epoch)
	if !ok {
		return Position{}, badPosition(text, "its epoch is not a positive number")
	}
	s, ok := parseCount(seq)
	if !ok {
		return Position{}, badPosition(text, "its seq is not a positive number")
	}
	if !isCheck(check) {
		return Position{}, badPosition(text, "its check is not 8 hex digits")
	}
	return Position{Epoch: e, Seq: s, Check: check}, nil
}

func badPosition(text, why string) error {
	const most = 80 // of a stranger's input, in a message
	if len(text) > most {
		text = text[:most] + "…"
	}
	return fmt.Errorf("%w %q: %s", ErrBadPosition, text, why)
}

// parseCount reads a positive decimal in canonical form: no sign, no leading
// zero, exact in a double.
func parseCount(text string) (int64, bool) {
	if text == "" || text[0] < '1' || text[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n > 0 && n <= min(maxExact, math.MaxInt64)
}

func isCheck(text string) bool {
	if len(text) != checkLen {
		return false
	}
	for _, c := range []byte(text) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

const checkLen = 8

// FirstCheck is what the check of a stream's first event builds on.
const FirstCheck = "00000000"

// NextCheck returns the check of an event from the check of the event before
// it ([FirstCheck] for the first) and the event's tail: the text of its JSON
// after the check's own comma, which is `"lost":N,` where it is set, then the
// writer's body without its opening brace. It is the first 8 hex digits of
// SHA-1, the only hash that Redis gives to scripts; it tells histories apart
// and is no protection against a forger.
func NextCheck(prev string, tail []byte) string {
	h := sha1.New()
	h.Write([]byte(prev))
	h.Write(tail)
	var sum [sha1.Size]byte
	return hex.EncodeToString(h.Sum(sum[:0])[:checkLen/2])
}
