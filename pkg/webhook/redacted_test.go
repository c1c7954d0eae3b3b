package webhook_test

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/runcast/runcast/pkg/webhook"
)

func TestRedacted(t *testing.T) {
	const none = "(a URL that cannot be read)"
	for _, tt := range []struct{ url, want string }{
		{"https://receiver.example", "https://receiver.example"},
		{"https://Receiver.example:8443/a%2Fb/ä", "https://Receiver.example:8443/a%2Fb/ä"},
		{"http://[fe80::1%25eth0]:8080/", "http://[fe80::1%25eth0]:8080/"},
		{"https://receiver.example/hook?token=s3cret", "https://receiver.example/hook?token=…"},
		{"https://receiver.example?run=42&token=s3cret", "https://receiver.example?run=…&token=…"},
		{"https://receiver.example/?s3cret", "https://receiver.example/?…"},
		{"https://receiver.example/?a=s3cret=&s3cret&b=", "https://receiver.example/?a=…&…&b=…"},
		{"https://receiver.example/?a=s3cret?s3cret://@/", "https://receiver.example/?a=…"},
		{"https://receiver.example/?", "https://receiver.example/?"},
		{"https://receiver.example/#s3cret?s3cret", "https://receiver.example/"},
		{"https://receiver.example/?a=s3cret#s3cret", "https://receiver.example/?a=…"},
		{"https://s3cret@receiver.example/a@b", "https://xxxxx@receiver.example/a@b"},
		{"https://user:s3cret@receiver.example:1/", "https://xxxxx@receiver.example:1/"},
		{"https://user:s3@cret@receiver.example/", "https://xxxxx@receiver.example/"},
		{"https://user:s3/cret@receiver.example/", none},
		{"https://user:s3?cret@receiver.example/", none},
		{"https://user:s3#cret@receiver.example/", none},
		{"user:s3cret@receiver.example/", none},
		{"user:s3cret://receiver.example/", none},
		{"//s3cret@receiver.example/", none},
		{"//user:s3cret@receiver.example://x/", none},
		{"://s3cret@receiver.example/", none},
		{"/hook?token=s3cret", none},
		{"https:s3cret", none},
		{"https:///?s3cret", none},
		{"https://receiver.example/%zz?s3cret", none},
		{"https://receiver.example/\x1b", none},
		{"https://receiver.example/?\x1b=s3cret", none},
		{"s3cret", none},
		{"", none},
	} {
		got := webhook.Redacted(tt.url)
		if got != tt.want {
			t.Errorf("%q is shown as %q, want %q", tt.url, got, tt.want)
		}
		if again := webhook.Redacted(got); again != got {
			t.Errorf("%q is shown as %q", got, again)
		}
	}
}

// Whatever can be called is shown with the same host and path, and without a
// value.
func FuzzRedacted(f *testing.F) {
	f.Add("https://u:p@receiver.example/hook?run=42&token#x")
	f.Add("user:s3cret@receiver.example?x://y@z")
	f.Fuzz(func(t *testing.T, raw string) {
		shown := webhook.Redacted(raw)
		if again := webhook.Redacted(shown); again != shown {
			t.Errorf("%q is shown as %q, and that as %q", raw, shown, again)
		}
		got, err := url.Parse(shown)
		if err != nil || got.Host == "" {
			if strings.HasPrefix(shown, "(a URL") {
				return
			}
			t.Fatalf("%q is shown as %q", raw, shown)
		}
		if user := got.User.String(); user != "" && user != "xxxxx" || got.Fragment != "" {
			t.Errorf("%q is shown as %q", raw, shown)
		}
		for pair := range strings.SplitSeq(got.RawQuery, "&") {
			if _, value, ok := strings.Cut(pair, "="); ok && value != "…" || !ok && pair != "" && pair != "…" {
				t.Errorf("%q is shown as %q", raw, shown)
			}
		}
		if want, err := url.Parse(raw); err == nil && (got.Host != want.Host || got.Path != want.Path) {
			t.Errorf("%q is shown as %q", raw, shown)
		}
	})
}

// A receiver may repeat what it was asked for. Its text goes into errors, logs
// and lists.
func TestReasonsShowNoQuery(t *testing.T) {
	const query = "run=42&token=s3cret%2Fs3cret%2F&s3cret-s3cret"
	for name, tt := range map[string]struct {
		answer func(uri string) string
		want   string
	}{
		"the first line": {func(uri string) string { return "HTTP/1.1 400 " + uri + "\r\nContent-Length: 0\r\n\r\n" },
			"400 /hook?run=…&token=…&…"},
		"the body": {func(uri string) string {
			return "HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n" + strings.Repeat("x", 150) + " token s3cret/s3cret/ at " + uri
		}, "x token … at /hook"},
		"a redirect": {func(uri string) string {
			return "HTTP/1.1 307 Go\r\nLocation: https://u:s3cret@other.example" + uri + "&more=s3cret#s3cret\r\nContent-Length: 0\r\n\r\n"
		}, `to "https://xxxxx@other.example/hook?run=…&token=…&…&more=…"`},
		"a redirect within the host": {func(uri string) string {
			return "HTTP/1.1 307 Go\r\nLocation: /s3cret-s3cret" + uri + "\r\nContent-Length: 0\r\n\r\n"
		}, `/…/hook?run=…&token=…&…"`},
		"no HTTP": {func(uri string) string { return "POST " + uri + " HTTP/1.1\r\n\r\n" }, "/hook?run=…&token=…&…"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			asked := ""
			var serving sync.WaitGroup
			serving.Go(func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				buf := make([]byte, 4096)
				n, _ := c.Read(buf)
				asked, _, _ = strings.Cut(strings.TrimPrefix(string(buf[:n]), http.MethodPost+" "), " ")
				fmt.Fprint(c, tt.answer(asked))
			})
			e := refusal(t, sender(t, webhook.Options{Allow: allow(t, "127.0.0.1")}).Send(t.Context(), message("http://"+l.Addr().String()+"/hook?"+query)))
			l.Close()
			serving.Wait()
			if asked != "/hook?"+query {
				t.Errorf("it was asked for %q", asked)
			}
			if !strings.Contains(e.Reason, tt.want) || strings.Contains(e.Reason, "s3cret") {
				t.Errorf("%s", e.Reason)
			}
		})
	}
}
