package twiliohook

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/runcast/runcast/pkg/message"
)

// The classes of error of a form. They say what would be right, and repeat
// nothing of what was sent.
var (
	// ErrNotForm: the body is no form.
	ErrNotForm = errors.New("not a form")
	// ErrTooLarge: the body is longer than allowed.
	ErrTooLarge = errors.New("the body is too long")
	// ErrInvalid: a field is missing or malformed.
	ErrInvalid = errors.New("invalid form")
)

// ReadForm reads the body, of at most maxBody bytes. The query is not part
// of it. Errors wrap [ErrNotForm], [ErrTooLarge] or [ErrInvalid], or are what
// the connection says.
func ReadForm(w http.ResponseWriter, r *http.Request, maxBody int64) (url.Values, error) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/x-www-form-urlencoded" {
		return nil, fmt.Errorf("%w: send application/x-www-form-urlencoded, as Twilio does", ErrNotForm)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, fmt.Errorf("%w: at most %d bytes are taken", ErrTooLarge, maxBody)
	} else if err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil { // its text repeats the body
		return nil, fmt.Errorf("%w: the body is not well encoded", ErrInvalid)
	}
	return form, nil
}

// ParseInbound reads the form of an incoming message. Its errors wrap
// [ErrInvalid].
func ParseInbound(channel message.Channel, form url.Values, now time.Time) (message.Inbound, error) {
	sid, err := parseSID(form)
	if err != nil {
		return message.Inbound{}, err
	}
	from, err := one(form, "From")
	if err != nil {
		return message.Inbound{}, err
	}
	sender, err := message.ParseAddress(channel, from)
	if err != nil {
		return message.Inbound{}, fmt.Errorf("%w: From: %w", ErrInvalid, err)
	}
	to, err := one(form, "To")
	if err != nil {
		return message.Inbound{}, err
	}
	receiver, err := message.ParseAddress(channel, to)
	if err != nil {
		return message.Inbound{}, fmt.Errorf("%w: To: %w", ErrInvalid, err)
	}
	if len(form["Body"]) > 1 {
		return message.Inbound{}, fmt.Errorf("%w: Body is there more than once", ErrInvalid)
	}
	text := form.Get("Body") // a picture comes without one
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\uFFFD") // the workflow's input is JSON
	}
	return message.Inbound{
		Channel: channel, SID: sid, From: sender, To: receiver, Text: text,
		ReceivedAt: now.UTC().Truncate(time.Microsecond),
	}, nil
}

// maxStatus is far longer than any status.
const maxStatus = 32

// ParseStatus reads the form of a status callback. Its errors wrap
// [ErrInvalid]. A status that Twilio may add one day is taken as it is.
func ParseStatus(form url.Values) (message.Receipt, error) {
	sid, err := parseSID(form)
	if err != nil {
		return message.Receipt{}, err
	}
	status, err := one(form, "MessageStatus")
	if err != nil {
		return message.Receipt{}, err
	}
	if len(status) > maxStatus || strings.Trim(status, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return message.Receipt{}, fmt.Errorf("%w: MessageStatus is a word such as delivered", ErrInvalid)
	}
	receipt := message.Receipt{SID: sid, Status: message.Status(status)}
	if code := form.Get("ErrorCode"); code != "" {
		n, err := strconv.Atoi(code)
		if err != nil || n < 0 || n > 999_999 || len(form["ErrorCode"]) > 1 {
			return message.Receipt{}, fmt.Errorf("%w: ErrorCode is a number such as 30003", ErrInvalid)
		}
		receipt.ErrorCode = n
	}
	return receipt, nil
}

// parseSID reads MessageSid: two letters for what it is, and 32 hexadecimal
// digits. It becomes part of a workflow ID.
func parseSID(form url.Values) (string, error) {
	sid, err := one(form, "MessageSid")
	if err != nil {
		return "", err
	}
	if !validSID(sid) {
		return "", fmt.Errorf("%w: MessageSid is SM or MM and 32 hexadecimal digits", ErrInvalid)
	}
	return sid, nil
}

func validSID(sid string) bool {
	return len(sid) == 34 && (sid[:2] == "SM" || sid[:2] == "MM") &&
		strings.Trim(sid[2:], "0123456789abcdefABCDEF") == ""
}

// one returns the value of a field that has to be there once.
func one(form url.Values, name string) (string, error) {
	switch values := form[name]; {
	case len(values) == 0 || len(values) == 1 && values[0] == "":
		return "", fmt.Errorf("%w: %s is missing", ErrInvalid, name)
	case len(values) > 1:
		return "", fmt.Errorf("%w: %s is there more than once", ErrInvalid, name)
	default:
		return values[0], nil
	}
}
