package progress

import (
	"errors"
	"testing"

	"pgregory.net/rapid"
)

func anyPosition(t *rapid.T) Position {
	return Position{
		Epoch: rapid.Int64Range(1, maxExact).Draw(t, "epoch"),
		Seq:   rapid.Int64Range(1, maxExact).Draw(t, "seq"),
		Check: rapid.StringMatching(`[0-9a-f]{8}`).Draw(t, "check"),
	}
}

func TestPositionRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyPosition(t)
		got, err := ParsePosition(want.String())
		if err != nil || got != want {
			t.Fatalf("ParsePosition(%q) = %v, %v", want, got, err)
		}
	})
}

func TestParsePosition(t *testing.T) {
	if p, err := ParsePosition("0-0"); err != nil || !p.IsZero() || p.String() != "0-0" {
		t.Errorf(`ParsePosition("0-0") = %v, %v; want the empty stream`, p, err)
	}
	for _, text := range []string{
		"", "0", "-", "--", "0-0-", "0-0-00000000", "1-1", "1-1-", "1-1-0123456", "1-1-012345678",
		"1-1-0123456G", "1-1-0123456A", "01-1-01234567", "1-01-01234567", "+1-1-01234567", "-1-1-01234567",
		" 1-1-01234567", "1-1-01234567 ", "1-1-01234567\n", "1-0-01234567", "0-1-01234567", "1.0-1-01234567",
		"9007199254740992-1-01234567", "1-9007199254740992-01234567", "99999999999999999999-1-01234567",
		"1-1-01234567-1", "é-1-01234567", "null", "$", "(1-1",
	} {
		if p, err := ParsePosition(text); !errors.Is(err, ErrBadPosition) || !p.IsZero() {
			t.Errorf("ParsePosition(%q) = %v, %v; want ErrBadPosition", text, p, err)
		}
	}
}

// Any text is either what String writes or an error, never something near.
func TestParsePositionOfAnyText(t *testing.T) {
	mutated := rapid.Custom(func(t *rapid.T) string {
		text := anyPosition(t).String()
		at := rapid.IntRange(0, len(text)).Draw(t, "at")
		cut := rapid.IntRange(0, min(3, len(text)-at)).Draw(t, "cut")
		put := rapid.OneOf(rapid.StringN(0, 3, -1), rapid.StringMatching(`[-0-9a-fA-F+. ]{0,3}`)).Draw(t, "put")
		return text[:at] + put + text[at+cut:]
	})
	anyText := rapid.OneOf(mutated, rapid.String(), rapid.StringMatching(`[0-9]{0,17}-[0-9]{0,17}(-[0-9a-fA-F]{7,9})?`))
	rapid.Check(t, func(t *rapid.T) {
		text := anyText.Draw(t, "text")
		p, err := ParsePosition(text)
		switch {
		case err == nil && p.String() != text:
			t.Fatalf("ParsePosition(%q) = %q: not canonical", text, p)
		case err != nil && (!errors.Is(err, ErrBadPosition) || !p.IsZero()):
			t.Fatalf("ParsePosition(%q) = %v, %v; want ErrBadPosition", text, p, err)
		}
	})
}

// The unknown position has no text that could come back as a position.
func TestUnknownPosition(t *testing.T) {
	if p, err := ParsePosition(UnknownPosition.String()); err == nil || UnknownPosition.IsZero() {
		t.Errorf("%q reads as %v", UnknownPosition, p)
	}
}

func TestParsePositionErrorIsBounded(t *testing.T) {
	long := make([]byte, 1<<20)
	_, err := ParsePosition(string(long))
	if err == nil || len(err.Error()) > 1000 {
		t.Errorf("a long position makes an error of %d bytes", len(err.Error()))
	}
}

func FuzzParsePosition(f *testing.F) {
	for _, seed := range []string{"0-0", "1-1-01234567", "1763856000000-42-deadbeef", "--", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePosition(text)
		if err != nil {
			if !errors.Is(err, ErrBadPosition) {
				t.Fatalf("error %v is not ErrBadPosition", err)
			}
			return
		}
		if p.String() != text {
			t.Fatalf("ParsePosition(%q).String() = %q: not canonical", text, p)
		}
	})
}

func TestNextCheckIsPublishedVector(t *testing.T) {
	// The vector is SHA-1 of "00000000" followed by the tail, computed by
	// sha1sum; a change here breaks every writer in another language.
	tail := []byte(`"workflow_id":"w"}`)
	if got, want := NextCheck(FirstCheck, tail), "319d1627"; got != want {
		t.Errorf("NextCheck = %s, want %s", got, want)
	}
}

func TestParseVersion(t *testing.T) {
	for _, text := range []string{"0-0", "1-1", "1795395723456-42", "9007199254740991-9007199254740991"} {
		if p, err := ParseVersion(text); err != nil || p.String() != text || p.Check != "" {
			t.Errorf("ParseVersion(%q) = %v, %v", text, p, err)
		}
	}
	for _, text := range []string{
		"", "-", "1", "1-", "-1", "0-1", "1-0", "01-1", "1-01", "+1-1", "1-1-", "1-1-01234567", "1--1", " 1-1", "1-1\n",
		"9007199254740992-1", "1-9007199254740992", UnknownPosition.String(),
	} {
		if p, err := ParseVersion(text); !errors.Is(err, ErrBadPosition) || !p.IsZero() {
			t.Errorf("ParseVersion(%q) = %v, %v; want ErrBadPosition", text, p, err)
		}
	}
}
