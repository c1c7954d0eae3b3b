package webhook_test

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/webhook"
)

// No request leaves for these, however they are written.
func TestForbiddenAddresses(t *testing.T) {
	var arrived atomic.Int64
	srv := receiver(t, func(http.ResponseWriter, *http.Request) { arrived.Add(1) })
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	zone := &names{addrs: map[string][]netip.Addr{
		"inside.example.":   {netip.MustParseAddr("127.0.0.1")},
		"metadata.example.": {netip.MustParseAddr("169.254.169.254")},
	}, asked: make(map[string]int)}
	s := sender(t, webhook.Options{Resolver: zone.resolver(t), Timeout: 5 * time.Second})
	s.OnDial(func(address string) error {
		t.Errorf("%s would have been called", address)
		return errors.New("not in a test")
	})
	for _, host := range []string{
		"127.0.0.1", "127.1.2.3", "localhost", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]",
		"10.0.0.1", "172.16.5.5", "192.168.1.1", "100.64.0.1", "[fd00::1]", "[fe80::1%25lo]",
		"169.254.169.254", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[fd00:ec2::254]", "[fe80::a9fe:a9fe]", "100.100.100.200", "192.0.0.192", "168.63.129.16", "[fd20:ce::254]",
		"[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]", "[2001:0:7f00:1::]",
		"224.0.0.1", "255.255.255.255", "192.0.2.1", "inside.example", "metadata.example",
	} {
		e := refusal(t, s.Send(t.Context(), message("http://"+host+":"+port+"/")))
		if !e.Final || !strings.Contains(e.Reason, "RUNCAST_PUSH_ALLOW") {
			t.Errorf("%s: %+v", host, e)
		}
	}
	// These are no addresses to everybody; whatever they are, nothing leaves.
	for _, host := range []string{"2130706433", "0x7f000001", "0177.0.0.1", "127.1", "127.0.0.1.", "①②⑦.0.0.1"} {
		if e := refusal(t, s.Send(t.Context(), message("http://"+host+":"+port+"/"))); e.Reason == "" {
			t.Errorf("%s: %+v", host, e)
		}
	}
	if arrived.Load() > 0 {
		t.Errorf("%d requests have left", arrived.Load())
	}
}

// What counts is the address at the moment of the call, not what the name had
// before.
func TestRebindingIsCovered(t *testing.T) {
	var arrived atomic.Int64
	srv := receiver(t, func(http.ResponseWriter, *http.Request) { arrived.Add(1) })
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	zone := &names{addrs: map[string][]netip.Addr{
		"rebinds.example.": {netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("127.0.0.1")},
	}, asked: make(map[string]int)}
	s := sender(t, webhook.Options{Resolver: zone.resolver(t), Timeout: 5 * time.Second})
	var let []string
	s.OnDial(func(address string) error {
		let = append(let, address)
		return errors.New("not in a test")
	})
	url := "http://rebinds.example:" + port + "/"
	if e := refusal(t, s.Send(t.Context(), message(url))); e.Final {
		t.Errorf("while it is public: %+v", e)
	}
	e := refusal(t, s.Send(t.Context(), message(url)))
	if !e.Final || !strings.Contains(e.Reason, "127.0.0.1") {
		t.Errorf("once it is loopback: %+v", e)
	}
	if len(let) != 1 || let[0] != "8.8.8.8:"+port {
		t.Errorf("let through: %q", let)
	}
	if n := zone.count("rebinds.example."); n != 2 || arrived.Load() != 0 {
		t.Errorf("the name was asked for %d times, %d requests arrived", n, arrived.Load())
	}
}

func TestAllow(t *testing.T) {
	srv := receiver(t, func(http.ResponseWriter, *http.Request) {})
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	zone := &names{addrs: map[string][]netip.Addr{
		"inside.example.":   {netip.MustParseAddr("127.0.0.1")},
		"metadata.example.": {netip.MustParseAddr("169.254.169.254")},
		"alibaba.example.":  {netip.MustParseAddr("100.100.100.200")},
		"oracle.example.":   {netip.MustParseAddr("192.0.0.192")},
		"azure.example.":    {netip.MustParseAddr("168.63.129.16")},
		"google.example.":   {netip.MustParseAddr("fd20:ce::254")},
		"nat64.example.":    {netip.MustParseAddr("64:ff9b::a9fe:a9fe")},
		"nat64l.example.":   {netip.MustParseAddr("64:ff9b:1::6464:64c8")},
		"six.example.":      {netip.MustParseAddr("2002:a9fe:a9fe::1")},
		"teredo.example.":   {netip.MustParseAddr("2001:0:102:304::5601:5601")},
		"old.example.":      {netip.MustParseAddr("::a9fe:a9fe")},
	}, asked: make(map[string]int)}
	resolver := zone.resolver(t)
	for _, tt := range []struct {
		allow, host string
		ok          bool
	}{
		{"127.0.0.0/8", "127.0.0.1", true},
		{"127.0.0.1", "127.0.0.1", true},
		{"127.0.0.1", "[::ffff:127.0.0.1]", true},
		{"127.0.0.1:" + port, "127.0.0.1", true},
		{"127.0.0.1:1", "127.0.0.1", false},
		{"10.0.0.0/8", "127.0.0.1", false},
		{"inside.example:" + port, "inside.example", true},
		{"inside.example:" + port, "INSIDE.example", true},
		{"inside.example:1", "inside.example", false},
		{"inside.example:" + port, "127.0.0.1", false},
		{"metadata.example:" + port, "metadata.example", false},
		{"alibaba.example:" + port, "alibaba.example", false},
		{"oracle.example:" + port, "oracle.example", false},
		{"azure.example:" + port, "azure.example", false},
		{"google.example:" + port, "google.example", false},
		{"nat64.example:" + port, "nat64.example", false},
		{"nat64l.example:" + port, "nat64l.example", false},
		{"six.example:" + port, "six.example", false},
		{"teredo.example:" + port, "teredo.example", false},
		{"old.example:" + port, "old.example", false},
		{"::ffff:127.0.0.0/104", "127.0.0.1", true},
		{"inside.example:0" + port, "inside.example", true},
	} {
		s := sender(t, webhook.Options{Allow: allow(t, tt.allow), Resolver: resolver})
		err := s.Send(t.Context(), message("http://"+tt.host+":"+port+"/"))
		if (err == nil) != tt.ok || err != nil && !strings.Contains(err.Error(), "RUNCAST_PUSH_ALLOW") {
			t.Errorf("%s with %s: %v", tt.host, tt.allow, err)
		}
	}
	for _, bad := range []string{"", "localhost", "10.0.0.0/33", "http://127.0.0.1:80", "a b:80", "host:nope", "host:http", "host:0", "host:65536", "host:-1", "hôte:80", ":80", "fe80::1%lo", "::ffff:0.0.0.0/90"} {
		if _, err := webhook.ParseAllow(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestURLs(t *testing.T) {
	a := allow(t, "127.0.0.1:8081")
	s := sender(t, webhook.Options{Allow: a})
	s.OnDial(func(string) error { return errors.New("not in a test") })
	for _, tt := range []struct{ url, want string }{
		{"https://receiver.example/hook?a=b", ""},
		{"http://127.0.0.1:8081/", ""},
		{"http://127.0.0.1:8082/", "RUNCAST_PUSH_ALLOW"},
		{"http://169.254.169.254/latest/meta-data", "RUNCAST_PUSH_ALLOW"},
		{"https://[::ffff:169.254.169.254]/", "RUNCAST_PUSH_ALLOW"},
		{"https://user:hunter2@receiver.example/", "user or password"},
		{"https://user@receiver.example/", "user or password"},
		{"https://:p@169.254.169.254/", "user or password"},
		{"ftp://receiver.example/", "scheme"},
		{"file:///etc/passwd", "scheme"},
		{"gopher://127.0.0.1:6379/_FLUSHALL", "scheme"},
		{"receiver.example/hook", "scheme"},
		{"https:///hook", "no host"},
		{"https://", "no host"},
		{"https://receiver.example:65536/", "no such port"},
		{"https://receiver.example:0/", "no such port"},
		{"http://127.0.0.1:99999/", "no such port"},
		{"http://[::1", "cannot be read"},
		{"http://a\r\nHost: b/", "cannot be read"},
		{"https://receiver.example/" + strings.Repeat("x", 2000), "2000 are allowed"},
	} {
		err := a.CheckURL(tt.url)
		if (tt.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.60q: %v, want %q", tt.url, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the password is shown: %v", err)
		}
		if tt.want == "" {
			continue
		}
		if e := refusal(t, s.Send(t.Context(), message(tt.url))); !e.Final || !strings.Contains(e.Reason, tt.want) {
			t.Errorf("%.60q is sent to: %+v", tt.url, e)
		}
	}
}

// A proxy of the environment would call what the guard has never seen.
func TestNoProxy(t *testing.T) {
	var asked atomic.Int64
	proxy := receiver(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	e := refusal(t, sender(t, webhook.Options{Allow: allow(t, proxy.Listener.Addr().String())}).Send(t.Context(), message("http://169.254.169.254/")))
	if !e.Final || asked.Load() > 0 {
		t.Errorf("%+v; the proxy was asked %d times", e, asked.Load())
	}
}
