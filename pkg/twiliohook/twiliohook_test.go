package twiliohook_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/twiliohook"
)

// token is that of the vectors which Twilio's own libraries are tested with.
const token = "12345"

// call is the form of those vectors.
func call() url.Values {
	return url.Values{
		"Digits": {"1234"}, "CallSid": {"CA1234567890ABCDE"}, "To": {"+18005551212"},
		"Caller": {"+14158675309"}, "From": {"+14158675309"},
		"ReasonConferenceEnded": {"test"}, "Reason": {"Participant"},
	}
}

// request is one as it arrives behind a proxy: its own host says nothing.
func request(path, signature string) *http.Request {
	r := httptest.NewRequest("POST", "http://10.0.0.7:8081"+path, nil)
	if signature != "" {
		r.Header.Set(twiliohook.SignatureHeader, signature)
	}
	return r
}

func verifier(t *testing.T, o twiliohook.Options) *twiliohook.Verifier {
	t.Helper()
	if o.AuthToken == "" {
		o.AuthToken = token
	}
	v, err := twiliohook.NewVerifier(o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestPublishedVectors(t *testing.T) {
	const path = "/myapp.php?foo=1&bar=2"
	with := func(change func(url.Values)) url.Values {
		form := call()
		change(form)
		return form
	}
	// From the Python library: keys that come several times.
	repeated := func(values ...string) url.Values {
		return url.Values{"Sid": {"CA123"}, "SidAccount": {"AC123"}, "Digits": values}
	}
	for _, tt := range []struct {
		name, public, path, signature string
		form                          url.Values
		ok                            bool
	}{
		{"good", "https://mycompany.com", path, "vOEb5UThFn24KEfnOFLQY2AE5FY=", call(), true},
		{"good, of a base with a slash", "https://mycompany.com/", path, "vOEb5UThFn24KEfnOFLQY2AE5FY=", call(), true},
		{"wrong", "https://mycompany.com", path, "WRONG SIGNATURE", call(), false},
		{"none", "https://mycompany.com", path, "", call(), false},
		{"signed without the port", "https://mycompany.com:1234", path, "vOEb5UThFn24KEfnOFLQY2AE5FY=", call(), true},
		{"plain", "http://mycompany.com", path, "n2xBNyzSW7rfYStDtOFiFMv7qNo=", call(), true},
		{"plain, signed without the port", "http://mycompany.com:1234", path, "n2xBNyzSW7rfYStDtOFiFMv7qNo=", call(), true},
		{"of another scheme", "http://mycompany.com", path, "vOEb5UThFn24KEfnOFLQY2AE5FY=", call(), false},
		{"sorted wrongly", "https://mycompany.com", path, "95+Bu0JVPi0r/SsESZCVf0dWAjw=", call(), false},
		{"another host", "https://mycompany.example", path, "vOEb5UThFn24KEfnOFLQY2AE5FY=", call(), false},
		{"another query", "https://mycompany.com", "/myapp.php?foo=1&bar=3", "vOEb5UThFn24KEfnOFLQY2AE5FY=", call(), false},
		{"a field more", "https://mycompany.com", path, "vOEb5UThFn24KEfnOFLQY2AE5FY=", with(func(f url.Values) { f.Set("X", "1") }), false},
		{"a value more", "https://mycompany.com", path, "vOEb5UThFn24KEfnOFLQY2AE5FY=", with(func(f url.Values) { f.Add("Digits", "5") }), false},
		{"a field less", "https://mycompany.com", path, "vOEb5UThFn24KEfnOFLQY2AE5FY=", with(func(f url.Values) { f.Del("Digits") }), false},
		{"two fields", "https://mycompany.com", path, "NBdBDr/T/lgjI+tlgpXjKZQZs/k=", url.Values{"property": {"value"}, "boolean": {"true"}}, true},
		{"Python's", "https://mycompany.com", path, "RSOYDt4T1cUTdK1PDd93/VVr8B8=", with(func(f url.Values) { f.Del("ReasonConferenceEnded"); f.Del("Reason") }), true},
		{"Python's, with a port", "http://mycompany.com:1234", path, "Zmvh+3yNM1Phv2jhDCwEM3q5ebU=", with(func(f url.Values) { f.Del("ReasonConferenceEnded"); f.Del("Reason") }), true},
		{"Python's, signed with port 443", "https://mycompany.com", path, "kvajT1Ptam85bY51eRf/AJRuM3w=", with(func(f url.Values) { f.Del("ReasonConferenceEnded"); f.Del("Reason") }), true},
		{"Python's, signed with port 80", "http://mycompany.com", path, "0ZXoZLH/DfblKGATFgpif+LLRf4=", with(func(f url.Values) { f.Del("ReasonConferenceEnded"); f.Del("Reason") }), true},
		{"Python's, repeated", "https://mycompany.com", path, "IK+Dwps556ElfBT0I3Rgjkr1wJU=", repeated("5678", "1234"), true},
		{"Python's, repeated and equal", "https://mycompany.com", path, "IK+Dwps556ElfBT0I3Rgjkr1wJU=", repeated("1234", "5678", "1234"), true},
		{"repeated, signed by another", "https://mycompany.com", path, sign("other", "https://mycompany.com"+path, repeated("2", "1")), repeated("2", "1"), false},
		{"repeated", "https://mycompany.com", path, sign(token, "https://mycompany.com"+path, repeated("2", "1", "2")), repeated("2", "1", "2"), true},
		{"repeated in another order", "https://mycompany.com", path, sign(token, "https://mycompany.com"+path, repeated("1", "2")), repeated("2", "2", "1"), true},
		{"repeated, one changed", "https://mycompany.com", path, sign(token, "https://mycompany.com"+path, repeated("1", "2")), repeated("1", "3"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := verifier(t, twiliohook.Options{PublicURL: tt.public}).Signed(request(tt.path, tt.signature), tt.form)
			if (err == nil) != tt.ok || err != nil && !errors.Is(err, twiliohook.ErrSignature) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// sign signs as Twilio does: every distinct value of every key, in order.
func sign(token, u string, form url.Values) string {
	for _, key := range slices.Sorted(maps.Keys(form)) {
		for _, value := range slices.Compact(slices.Sorted(slices.Values(form[key]))) {
			u += key + value
		}
	}
	h := hmac.New(sha1.New, []byte(token))
	_, _ = io.WriteString(h, u)
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

func TestTwoSignaturesAreNone(t *testing.T) {
	r := request("/myapp.php?foo=1&bar=2", "vOEb5UThFn24KEfnOFLQY2AE5FY=")
	r.Header.Add(twiliohook.SignatureHeader, "vOEb5UThFn24KEfnOFLQY2AE5FY=")
	if err := verifier(t, twiliohook.Options{PublicURL: "https://mycompany.com"}).Signed(r, call()); !errors.Is(err, twiliohook.ErrSignature) {
		t.Errorf("got %v", err)
	}
}

// Headers that anyone can send decide nothing, unless a configured proxy does.
func TestForwardedHeaders(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("::1/128")}
	for _, tt := range []struct {
		name, public, peer string
		header             []string
		want               string
	}{
		{"a public URL wins", "https://a.example/base", "192.0.2.1:1", []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "b.example"}, "https://a.example/base/x?y=1"},
		{"a trusted proxy", "", "192.0.2.1:1", []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "b.example"}, "https://b.example/x?y=1"},
		{"IPv4 in IPv6", "", "[::ffff:192.0.2.1]:1", []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "b.example"}, "https://b.example/x?y=1"},
		{"IPv6", "", "[::1]:1", []string{"X-Forwarded-Proto", "http", "X-Forwarded-Host", "b.example:8080"}, "http://b.example:8080/x?y=1"},
		{"a stranger", "", "198.51.100.1:1", []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "b.example"}, ""},
		{"no host", "", "192.0.2.1:1", []string{"X-Forwarded-Proto", "https"}, ""},
		{"no scheme", "", "192.0.2.1:1", []string{"X-Forwarded-Host", "b.example"}, ""},
		{"two hosts", "", "192.0.2.1:1", []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "a.example", "X-Forwarded-Host", "b.example"}, ""},
		{"a list", "", "192.0.2.1:1", []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "a.example, b.example"}, ""},
		{"a path", "", "192.0.2.1:1", []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "a.example/b"}, ""},
		{"another scheme", "", "192.0.2.1:1", []string{"X-Forwarded-Proto", "ftp", "X-Forwarded-Host", "a.example"}, ""},
		{"no peer", "", "@", []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "b.example"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := request("/x?y=1", "")
			r.RemoteAddr = tt.peer
			for i := 0; i < len(tt.header); i += 2 {
				r.Header.Add(tt.header[i], tt.header[i+1])
			}
			v := verifier(t, twiliohook.Options{PublicURL: tt.public, TrustedProxies: proxies})
			got, err := v.URL(r)
			if tt.want == "" {
				if !errors.Is(err, twiliohook.ErrNoURL) || !errors.Is(v.Signed(r, nil), twiliohook.ErrNoURL) {
					t.Errorf("got %q, %v", got, err)
				}
			} else if err != nil || got != tt.want {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestNewVerifierNeedsToKnow(t *testing.T) {
	for _, o := range []twiliohook.Options{{}, {AuthToken: token}, {PublicURL: "https://a.example"}} {
		if _, err := twiliohook.NewVerifier(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

const sid = "SM0123456789abcdef0123456789ABCDEF"

func TestReadForm(t *testing.T) {
	for _, tt := range []struct {
		name, media, body string
		want              error
	}{
		{"good", "application/x-www-form-urlencoded; charset=UTF-8", "a=1&a=2", nil},
		{"no type", "", "a=1", twiliohook.ErrNotForm},
		{"JSON", "application/json", "{}", twiliohook.ErrNotForm},
		{"too long", "application/x-www-form-urlencoded", "a=" + strings.Repeat("x", 99), twiliohook.ErrTooLarge},
		{"bad escape", "application/x-www-form-urlencoded", "secret=%zz", twiliohook.ErrInvalid},
		{"semicolon", "application/x-www-form-urlencoded", "a=1;b=2", twiliohook.ErrInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/?c=3", strings.NewReader(tt.body))
			r.Header.Set("Content-Type", tt.media)
			form, err := twiliohook.ReadForm(httptest.NewRecorder(), r, 100)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v", err)
			}
			if err != nil {
				if strings.Contains(err.Error(), "zz") {
					t.Errorf("the error repeats the body: %v", err)
				}
				return
			}
			if len(form["a"]) != 2 || form.Has("c") {
				t.Errorf("got %v", form)
			}
		})
	}
}

func TestParseInbound(t *testing.T) {
	now := time.Date(2026, 11, 24, 8, 0, 0, 123456789, time.FixedZone("", 3600))
	form := func(pairs ...string) url.Values {
		f := url.Values{"MessageSid": {sid}, "From": {"+61491570156"}, "To": {"+15005550006"}, "Body": {"hi"}}
		for i := 0; i < len(pairs); i += 2 {
			f[pairs[i]] = strings.Split(pairs[i+1], "|")
		}
		return f
	}
	for _, tt := range []struct {
		name    string
		channel message.Channel
		form    url.Values
		names   string // what an error has to name; "" is none
	}{
		{"good", message.ChannelSMS, form(), ""},
		{"a picture", message.ChannelSMS, form("MessageSid", "MM"+sid[2:], "Body", ""), ""},
		{"WhatsApp", message.ChannelWhatsApp, form("From", "whatsapp:+61491570156", "To", "whatsapp:+14155238886"), ""},
		{"no SID", message.ChannelSMS, form("MessageSid", ""), "MessageSid"},
		{"short SID", message.ChannelSMS, form("MessageSid", sid[:33]), "MessageSid"},
		{"a call's SID", message.ChannelSMS, form("MessageSid", "CA"+sid[2:]), "MessageSid"},
		{"a SID with a slash", message.ChannelSMS, form("MessageSid", sid[:33]+"/"), "MessageSid"},
		{"two SIDs", message.ChannelSMS, form("MessageSid", sid+"|"+sid), "MessageSid"},
		{"no From", message.ChannelSMS, form("From", ""), "From"},
		{"bad From", message.ChannelSMS, form("From", "Ada"), "From"},
		{"From WhatsApp", message.ChannelSMS, form("From", "whatsapp:+61491570156"), "From"},
		{"From SMS", message.ChannelWhatsApp, form(), "From"},
		{"bad To", message.ChannelSMS, form("To", "x"), "To"},
		{"two bodies", message.ChannelSMS, form("Body", "a|b"), "Body"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := twiliohook.ParseInbound(tt.channel, tt.form, now)
			if tt.names != "" {
				if !errors.Is(err, twiliohook.ErrInvalid) || !strings.Contains(err.Error(), tt.names) {
					t.Errorf("got %v", err)
				}
				return
			}
			want := message.Inbound{
				Channel: tt.channel, SID: tt.form.Get("MessageSid"), From: message.Address(tt.form.Get("From")), To: message.Address(tt.form.Get("To")),
				Text: tt.form.Get("Body"), ReceivedAt: time.Date(2026, 11, 24, 7, 0, 0, 123456000, time.UTC),
			}
			if err != nil || got != want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// texts are what people send, and what others try.
var texts = map[string]string{
	"control":   "a\x00\x07\x1b[31mb\r\nc\t",
	"RTL":       "\u202emarks\u2066 and \u200f",
	"emoji":     "👩‍👩‍👧‍👦 🇦🇺",
	"long":      strings.Repeat("ü", 1600),
	"markup":    `</Message><Message to="+1900">&amp;]]>'"`,
	"ampersand": "a&Body=b+c=%20",
}

func TestTextsArriveIntact(t *testing.T) {
	for name, text := range texts {
		t.Run(name, func(t *testing.T) {
			body := url.Values{"MessageSid": {sid}, "From": {"+61491570156"}, "To": {"+15005550006"}, "Body": {text}}.Encode()
			r := httptest.NewRequest("POST", "/", strings.NewReader(body))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			form, err := twiliohook.ReadForm(httptest.NewRecorder(), r, 64<<10)
			if err != nil {
				t.Fatal(err)
			}
			got, err := twiliohook.ParseInbound(message.ChannelSMS, form, time.Now())
			if err != nil || got.Text != text {
				t.Errorf("got %q, %v", got.Text, err)
			}
		})
	}
}

// XML cannot carry control characters, and has one way to end a line.
func TestReplyIsEscaped(t *testing.T) {
	for name, text := range texts {
		t.Run(name, func(t *testing.T) {
			answer, err := twiliohook.Reply(text)
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				XMLName xml.Name `xml:"Response"`
				Message []struct {
					Text  string     `xml:",chardata"`
					Attrs []xml.Attr `xml:",any,attr"`
					Inner []struct{} `xml:",any"`
				}
			}
			if err := xml.Unmarshal([]byte(answer), &got); err != nil {
				t.Fatalf("%v in %q", err, answer)
			}
			want := strings.NewReplacer("\x00", "\uFFFD", "\x07", "\uFFFD", "\x1b", "\uFFFD", "\r\n", "\n").Replace(text)
			if len(got.Message) != 1 || got.Message[0].Text != want || len(got.Message[0].Attrs)+len(got.Message[0].Inner) != 0 {
				t.Errorf("got %+v in %q", got, answer)
			}
		})
	}
}

func TestParseStatus(t *testing.T) {
	for _, tt := range []struct {
		name, status, code string
		want               message.Receipt
		names              string
	}{
		{"delivered", "delivered", "", message.Receipt{SID: sid, Status: message.StatusDelivered}, ""},
		{"undelivered", "undelivered", "30003", message.Receipt{SID: sid, Status: message.StatusUndelivered, ErrorCode: 30003}, ""},
		{"new to us", "partially_delivered", "", message.Receipt{SID: sid, Status: "partially_delivered"}, ""},
		{"none", "", "", message.Receipt{}, "MessageStatus"},
		{"markup", "<b>", "", message.Receipt{}, "MessageStatus"},
		{"long", strings.Repeat("a", 33), "", message.Receipt{}, "MessageStatus"},
		{"bad code", "failed", "x", message.Receipt{}, "ErrorCode"},
		{"negative code", "failed", "-1", message.Receipt{}, "ErrorCode"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := twiliohook.ParseStatus(url.Values{"MessageSid": {sid}, "MessageStatus": {tt.status}, "ErrorCode": {tt.code}})
			if tt.names != "" {
				if !errors.Is(err, twiliohook.ErrInvalid) || !strings.Contains(err.Error(), tt.names) {
					t.Errorf("got %v", err)
				}
			} else if err != nil || got != tt.want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// Whatever is sent: no panic, and what is taken keeps to the rules.
func FuzzForm(f *testing.F) {
	f.Add("MessageSid=" + sid + "&From=%2B61491570156&To=%2B15005550006&Body=hi")
	f.Add("MessageSid=" + sid + "&MessageStatus=sent&ErrorCode=0")
	f.Fuzz(func(t *testing.T, body string) {
		form, err := url.ParseQuery(body)
		if err != nil {
			return
		}
		if m, err := twiliohook.ParseInbound(message.ChannelSMS, form, time.Now()); err == nil && (len(m.SID) != 34 || m.From == "" || m.To == "") {
			t.Errorf("took %+v", m)
		}
		if r, err := twiliohook.ParseStatus(form); err == nil && (len(r.SID) != 34 || len(r.Status) > 32) {
			t.Errorf("took %+v", r)
		}
		if err := verifier(t, twiliohook.Options{PublicURL: "https://a.example"}).Signed(request("/x", "x"), form); err == nil {
			t.Error("signed by nobody")
		}
	})
}
