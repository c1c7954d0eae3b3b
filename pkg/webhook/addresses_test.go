package webhook_test

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/webhook"
)

// Of all the addresses that a name has, only those are called that may be,
// whatever the order and the kind.
func TestSeveralAddresses(t *testing.T) {
	var arrived atomic.Int64
	srv := receiver(t, func(http.ResponseWriter, *http.Request) { arrived.Add(1) })
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	for _, tt := range []struct {
		name  string
		addrs []string
		want  []string // what may be called
	}{
		{"private and public", []string{"10.0.0.1", "8.8.8.8"}, []string{"8.8.8.8"}},
		{"public and loopback", []string{"8.8.8.8", "127.0.0.1"}, []string{"8.8.8.8"}},
		{"metadata between public ones", []string{"8.8.8.8", "169.254.169.254", "8.8.4.4"}, []string{"8.8.4.4", "8.8.8.8"}},
		{"only private ones", []string{"10.0.0.1", "127.0.0.1"}, nil},
		{"IPv6, private and public", []string{"fd00::1", "2606:4700:4700::1111"}, []string{"[2606:4700:4700::1111]"}},
		{"public IPv4, private IPv6", []string{"8.8.8.8", "::1"}, []string{"8.8.8.8"}},
		{"private IPv4, public IPv6", []string{"127.0.0.1", "2606:4700:4700::1111"}, []string{"[2606:4700:4700::1111]"}},
		{"metadata of both kinds", []string{"169.254.169.254", "fd00:ec2::254"}, nil},
		{"a private one in IPv6 clothes", []string{"8.8.8.8", "::ffff:127.0.0.1", "64:ff9b::7f00:1"}, []string{"8.8.8.8"}},
	} {
		for _, order := range []string{"", ", the other way round"} {
			t.Run(tt.name+order, func(t *testing.T) {
				zone := &names{together: make(map[string][]netip.Addr)}
				for _, addr := range tt.addrs {
					zone.together["both.example."] = append(zone.together["both.example."], netip.MustParseAddr(addr))
				}
				if order != "" {
					slices.Reverse(zone.together["both.example."])
				}
				s := sender(t, webhook.Options{Resolver: zone.resolver(t), Timeout: 5 * time.Second})
				var mu sync.Mutex // both kinds are tried at once
				var let []string
				s.OnDial(func(address string) error {
					mu.Lock()
					defer mu.Unlock()
					let = append(let, address)
					return errors.New("not in a test")
				})
				e := refusal(t, s.Send(t.Context(), message("http://both.example:"+port+"/")))
				mu.Lock()
				defer mu.Unlock()
				var want []string
				for _, host := range tt.want {
					want = append(want, host+":"+port)
				}
				if slices.Sort(let); !slices.Equal(let, want) || e.Final != (tt.want == nil) {
					t.Errorf("let through: %q, want %q; %+v", let, want, e)
				}
			})
		}
	}
	if n := arrived.Load(); n != 0 {
		t.Errorf("%d requests arrived", n)
	}
}

// The address that may be called is called, beside others that may not.
func TestAllowedAmongOthers(t *testing.T) {
	var arrived atomic.Int64
	srv := receiver(t, func(http.ResponseWriter, *http.Request) { arrived.Add(1) })
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	zone := &names{together: map[string][]netip.Addr{"both.example.": {
		netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("::1"),
	}}}
	s := sender(t, webhook.Options{Allow: allow(t, "127.0.0.1"), Resolver: zone.resolver(t), Timeout: 5 * time.Second})
	s.OnDial(func(address string) error {
		if address != "127.0.0.1:"+port {
			t.Errorf("%s would have been called", address)
			return errors.New("not in a test")
		}
		return nil
	})
	if err := s.Send(t.Context(), message("http://both.example:"+port+"/")); err != nil || arrived.Load() != 1 {
		t.Errorf("%v; %d requests arrived", err, arrived.Load())
	}
}
