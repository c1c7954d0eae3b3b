package message_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/message"
)

func TestAddressIsMasked(t *testing.T) {
	for _, tt := range []struct{ plain, want string }{
		{"+61491570156", "+61•••••0156"},
		{"whatsapp:+61491570156", "whatsapp:+61•••••0156"},
		{"+15005550006", "+15•••••0006"},
		{"ada@example.com", "a•••@example.com"},
		{"éa@example.com", "é•••@example.com"},
		{"+1234567", "•••••"}, // too short to show a part of it
		{"12345", "•••••"},
		{"something else", "•••••"},
		{"", ""},
	} {
		a := message.Address(tt.plain)
		if got := a.String(); got != tt.want {
			t.Errorf("%q is %q, want %q", tt.plain, got, tt.want)
		}
		if a.Raw() != tt.plain {
			t.Errorf("Raw of %q is %q", tt.plain, a.Raw())
		}
	}
}

// Whatever prints or logs a message: neither number nor text is in it.
func TestNothingPrivateIsPrinted(t *testing.T) {
	const number, text = "+61491570156", "the secret text"
	in := message.Inbound{Channel: message.ChannelSMS, SID: "SM1", From: number, To: number, Text: text}
	out := message.Outgoing{Channel: message.ChannelSMS, Key: "k", From: number, To: number, Text: text}
	var logged bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&logged, nil), slog.NewJSONHandler(&logged, nil)} {
		slog.New(h).Info("x", "in", in, "out", out, "from", in.From, "all", fmt.Sprint(in, out))
	}
	all := logged.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%10s"} {
		all += fmt.Sprintf(strings.Repeat(verb+" ", 5), in, &in, out, in.From, []message.Address{number})
	}
	all += fmt.Sprintf("%v %+v", struct{ A message.Address }{number}, map[message.Address]int{number: 1})
	for _, private := range []string{"491570156", "91570", text, fmt.Sprintf("%x", number)} {
		if strings.Contains(all, private) {
			t.Errorf("%q is in\n%s", private, all)
		}
	}
	if !strings.Contains(all, "+61•••••0156") || !strings.Contains(all, "(15 characters)") {
		t.Errorf("neither the masked number nor the text's length is in\n%s", all)
	}
}

// Workflow inputs carry what is needed to send.
func TestJSONIsPlain(t *testing.T) {
	in := message.Inbound{
		Channel: message.ChannelWhatsApp, SID: "SM1", From: "whatsapp:+61491570156", To: "whatsapp:+14155238886",
		Text: "a\x07b\u202e👩‍👩‍👧", ReceivedAt: time.Unix(1, 0).UTC(),
	}
	data, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var got message.Inbound
	if err := json.Unmarshal(data, &got); err != nil || got != in {
		t.Errorf("got %s, %v", data, err)
	}
	if !bytes.Contains(data, []byte(`"from":"whatsapp:+61491570156"`)) || !bytes.Contains(data, []byte(`"received_at":`)) {
		t.Errorf("got %s", data)
	}
}

func TestParseAddress(t *testing.T) {
	for _, tt := range []struct {
		channel message.Channel
		text    string
		ok      bool
	}{
		{message.ChannelSMS, "+61491570156", true},
		{message.ChannelPage, "+61491570156", true},
		{message.ChannelSMS, "12345", true},
		{message.ChannelSMS, "61491570156", false},
		{message.ChannelSMS, "+0491570156", false},
		{message.ChannelSMS, "+61 491 570 156", false},
		{message.ChannelSMS, "+6149157015600000", false},
		{message.ChannelSMS, "+٦١٤٩١٥٧٠", false},
		{message.ChannelSMS, "", false},
		{message.ChannelSMS, "whatsapp:+61491570156", false},
		{message.ChannelWhatsApp, "whatsapp:+61491570156", true},
		{message.ChannelWhatsApp, "+61491570156", false},
		{message.ChannelEmail, "ada@example.com", true},
		{message.ChannelEmail, "Ada <ada@example.com>", false},
		{message.ChannelEmail, "ada@example.com\r\nBcc: b@example.com", false},
		{message.ChannelEmail, "ada", false},
		{"fax", "+61491570156", false},
	} {
		got, err := message.ParseAddress(tt.channel, tt.text)
		if tt.ok && (err != nil || got.Raw() != tt.text) || !tt.ok && !errors.Is(err, message.ErrBadAddress) {
			t.Errorf("%s %q: got %q, %v", tt.channel, tt.text, got.Raw(), err)
		}
	}
}

// In whatever order the callbacks of a message come, the same holds at last.
func TestStatusOrder(t *testing.T) {
	way := []message.Status{"accepted", "queued", "sending", "sent", "delivered", "read"}
	for i, s := range way {
		for j, u := range way {
			if got := s.After(u); got != (i > j) {
				t.Errorf("%s after %s: %v", s, u, got)
			}
		}
		if s.Final() != (i >= 4) || !s.Known() {
			t.Errorf("%s: final %v, known %v", s, s.Final(), s.Known())
		}
	}
	for _, fate := range []message.Status{"delivered", "undelivered", "failed", "canceled", "received"} {
		if !fate.Final() || !fate.After("sent") || fate.After("delivered") {
			t.Errorf("%s is not a fate", fate)
		}
	}
	if unknown := message.Status("teleported"); unknown.Known() || unknown.Final() || unknown.After("") {
		t.Error("an unknown status counts for something")
	}
	failed := message.Receipt{SID: "SM1", Status: "failed", ErrorCode: 30003}
	if got := failed.Newer(message.Receipt{SID: "SM1", Status: "sent"}); got != failed {
		t.Errorf("a late callback moved it back to %+v", got)
	}
}

func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		err       *message.Error
		permanent bool
		want      string
	}{
		{&message.Error{Class: message.ErrOptedOut, Code: 21610, HTTPStatus: 400}, true, "the receiver has opted out: error 21610, see https://www.twilio.com/docs/errors/21610"},
		{&message.Error{Class: message.ErrUnavailable, HTTPStatus: 503}, false, "the carrier is unavailable: HTTP status 503"},
		{&message.Error{Class: message.ErrUnknown, Cause: errors.New("cut")}, false, "the outcome of the send is unknown: cut"},
		{&message.Error{Class: message.ErrRefused}, true, "the carrier refused the message"},
		{&message.Error{Class: message.ErrRefused, Code: 20003, HTTPStatus: 401, Cause: fmt.Errorf("%w: check them", message.ErrCredentials)}, true,
			"the carrier refused the message: error 20003, see https://www.twilio.com/docs/errors/20003: the carrier does not know the credentials: check them"},
		{&message.Error{Class: message.ErrRefused, HTTPStatus: 403, Cause: errors.New("why")}, true, "the carrier refused the message: HTTP status 403: why"},
	} {
		err := fmt.Errorf("send: %w", tt.err)
		if tt.err.Error() != tt.want || message.CodeOf(err) != tt.err.Code || message.Permanent(err) != tt.permanent || !errors.Is(err, tt.err.Class) {
			t.Errorf("got %q, code %d, permanent %v", err, message.CodeOf(err), message.Permanent(err))
		}
	}
	if message.CodeOf(errors.New("other")) != 0 {
		t.Error("an error of something else has a code")
	}
}

func TestHideText(t *testing.T) {
	for _, tt := range []struct {
		text string
		show bool
		want string
	}{
		{"log 8h on apollo", false, "•••• (16 characters)"},
		{"é", false, "•••• (1 character)"},
		{"", false, "•••• (0 characters)"},
		{"log 8h", true, "log 8h"},
	} {
		if got := message.HideText(tt.text, tt.show); got != tt.want {
			t.Errorf("%q: got %q", tt.text, got)
		}
	}
}
