package message

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/mail"
	"strings"
	"unicode/utf8"
)

// Channel is the way that a message takes.
type Channel string

// The channels. ChannelPage is a message typed into the page or the
// terminal.
const (
	ChannelSMS      Channel = "sms"
	ChannelWhatsApp Channel = "whatsapp"
	ChannelEmail    Channel = "email"
	ChannelPage     Channel = "page"
)

// Address is where a message comes from or goes to: an E.164 number
// ("+61491570156"), "whatsapp:" and such a number, or an e-mail address. ""
// is none.
//
// However it is printed it is masked: "+61•••••0156". That holds for fields
// of structs too, as long as they are exported: fmt does not ask others.
type Address string

// ErrBadAddress is wrapped by the error of [ParseAddress].
var ErrBadAddress = errors.New("bad address")

// whatsAppPrefix is what Twilio puts before the numbers of WhatsApp.
const whatsAppPrefix = "whatsapp:"

// ParseAddress reads an address of a channel, as Twilio or a mail writes it.
// Its error wraps [ErrBadAddress], says what would be right, and does not
// name the address.
func ParseAddress(channel Channel, s string) (Address, error) {
	switch channel {
	case ChannelSMS, ChannelPage:
		if isNumber(s) || isShortCode(s) {
			return Address(s), nil
		}
		return "", fmt.Errorf("%w: a number looks like +61491570156", ErrBadAddress)
	case ChannelWhatsApp:
		if number, ok := strings.CutPrefix(s, whatsAppPrefix); ok && isNumber(number) {
			return Address(s), nil
		}
		return "", fmt.Errorf("%w: a number of WhatsApp looks like whatsapp:+61491570156", ErrBadAddress)
	case ChannelEmail:
		// A display name is not part of an address, and a line break in one
		// would be a header of its own.
		if a, err := mail.ParseAddress(s); err == nil && a.Name == "" && a.Address == s && len(s) <= maxMail {
			return Address(s), nil
		}
		return "", fmt.Errorf("%w: an e-mail address looks like ada@example.com", ErrBadAddress)
	}
	return "", fmt.Errorf("%w: unknown channel %q", ErrBadAddress, channel)
}

// maxMail is the most bytes that SMTP allows a mailbox to have.
const maxMail = 254

// isNumber reports whether s is an E.164 number.
func isNumber(s string) bool {
	digits, ok := strings.CutPrefix(s, "+")
	return ok && len(digits) >= 7 && len(digits) <= 15 && digits[0] != '0' && isDigits(digits)
}

// isShortCode reports whether s is a number of a network's own, without +.
func isShortCode(s string) bool { return len(s) >= 3 && len(s) <= 8 && isDigits(s) }

func isDigits(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}

// Raw returns the address as it is. Call it to send, to keep and to compare,
// never to log.
func (a Address) Raw() string { return string(a) }

// Number returns the address without the channel's prefix, so that one
// person is the same over SMS and WhatsApp.
func (a Address) Number() Address { return Address(strings.TrimPrefix(string(a), whatsAppPrefix)) }

// String returns the masked form. It says the country and the last four
// digits, or the first letter and the domain, and hides how long the rest is.
func (a Address) String() string {
	s := string(a)
	prefix := ""
	if rest, ok := strings.CutPrefix(s, whatsAppPrefix); ok {
		prefix, s = whatsAppPrefix, rest
	}
	if s == "" {
		return prefix
	}
	if at := strings.LastIndexByte(s, '@'); at > 0 {
		_, size := utf8.DecodeRuneInString(s)
		return prefix + s[:min(size, at)] + "•••" + s[at:]
	}
	if !isNumber(s) || len(s) < 10 {
		return prefix + "•••••" // too short for a part of it to hide the rest
	}
	return prefix + s[:3] + "•••••" + s[len(s)-4:]
}

// GoString is masked too.
func (a Address) GoString() string { return fmt.Sprintf("message.Address(%q)", a.String()) }

// Format masks every verb, %q and %x among them.
func (a Address) Format(f fmt.State, verb rune) {
	switch {
	case verb == 'v' && f.Flag('#'):
		_, _ = io.WriteString(f, a.GoString())
	default:
		fmt.Fprintf(f, fmt.FormatString(f, verb), a.String())
	}
}

// LogValue is masked too.
func (a Address) LogValue() slog.Value { return slog.StringValue(a.String()) }

// HideText returns a text as it may be shown: itself if show, else how long
// it is.
func HideText(text string, show bool) string {
	if show {
		return text
	}
	n := utf8.RuneCountInString(text)
	if n == 1 {
		return "•••• (1 character)"
	}
	return fmt.Sprintf("•••• (%d characters)", n)
}
