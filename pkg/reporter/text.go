package reporter

import (
	"slices"
	"unicode/utf8"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

const (
	// nameMax bounds a step's name, textMax a message or a line of log, both
	// in bytes: they are for people to read, and kept for every viewer.
	nameMax = 200
	textMax = 4 << 10
	// pieceMax bounds the text of one output event.
	pieceMax = 16 << 10
)

// bounded returns s, cut to at most n bytes at the boundary of a character.
func bounded(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const more = "…"
	n -= len(more)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + more
}

// cut returns the first at most n bytes of s, at the boundary of a character,
// and the rest.
func cut(s string, n int) (first, rest string) {
	if len(s) <= n {
		return s, ""
	}
	at := n
	for at > n-utf8.UTFMax && !utf8.RuneStart(s[at]) {
		at--
	}
	return s[:at], s[at:]
}

func clamped(p float64) *float64 {
	p = min(max(p, 0), 100)
	return &p
}

// percentOf returns the share of things done; ok is false when the total is
// not known.
func percentOf(current, total int64) (p *float64, ok bool) {
	if total <= 0 {
		return nil, false
	}
	return clamped(100 * float64(current) / float64(total)), true
}

// stepStatus reports whether a step can be in the status.
func stepStatus(s progress.Status) bool {
	return s == progress.StatusQueued || s == progress.StatusRunning || s.IsTerminal()
}

// validTags returns the tags that a store takes; the others are left out.
func validTags(tags []string) []string {
	tags = slices.DeleteFunc(tags, func(tag string) bool {
		return tag == "" || len(tag) > redisstore.MaxTagBytes
	})
	return tags[:min(len(tags), redisstore.MaxTags)]
}
