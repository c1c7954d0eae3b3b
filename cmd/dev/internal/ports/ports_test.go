package ports_test

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/runcast/runcast/cmd/dev/internal/ports"
)

func TestSplit(t *testing.T) {
	for _, tt := range []struct {
		addr, host string
		port       int
		err        string
	}{
		{"127.0.0.1:8080", "127.0.0.1", 8080, ""},
		{":8080", "127.0.0.1", 8080, ""},
		{"localhost:0", "127.0.0.1", 0, ""},
		{"0.0.0.0:1", "0.0.0.0", 1, ""},
		{"[::1]:65535", "::1", 65535, ""},
		{"8080", "", 0, "host:port"},
		{"", "", 0, "host:port"},
		{"127.0.0.1:http", "", 0, "number"},
		{"127.0.0.1:65536", "", 0, "number"},
		{"127.0.0.1:-1", "", 0, "number"},
	} {
		host, port, err := ports.Split(tt.addr)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q: error %v, want one about %q", tt.addr, err, tt.err)
			}
			continue
		}
		if err != nil || host != tt.host || port != tt.port {
			t.Errorf("%q: %q, %d, %v", tt.addr, host, port, err)
		}
	}
}

func TestClaimTakesFreePorts(t *testing.T) {
	a, b, c := "127.0.0.1:0", ":0", "localhost:0"
	if err := ports.Claim(map[string]*string{"--a": &a, "--b": &b, "--c": &c}); err != nil {
		t.Fatal(err)
	}
	got := []string{a, b, c}
	slices.Sort(got)
	if len(slices.Compact(got)) != 3 {
		t.Errorf("an address was given out twice: %q", got)
	}
	for _, addr := range got {
		if err := ports.CheckFree("--x", addr); err != nil {
			t.Error(err)
		}
		if host, port, err := net.SplitHostPort(addr); err != nil || host != "127.0.0.1" || port == "0" {
			t.Errorf("%q is not an explicit loopback address", addr)
		}
	}
}

func TestClaimRefuses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, inUse, _ := net.SplitHostPort(l.Addr().String())
	free := "127.0.0.1:0"
	if err := ports.Claim(map[string]*string{"--free": &free}); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free)
	for _, tt := range []struct {
		name, a, b string
		says       []string
	}{
		{"taken", "127.0.0.1:" + inUse, free, []string{"--a", "127.0.0.1:" + inUse, "taken"}},
		{"taken by one address, wanted on all", free, "0.0.0.0:" + inUse, []string{"--b", "0.0.0.0:" + inUse, "taken"}},
		{"twice", free, free, []string{"--a", "--b", free}},
		{"twice, spelled otherwise", "localhost:" + port, ":" + port, []string{"--a", "--b", free}},
		{"twice, once on all addresses", "0.0.0.0:" + port, free, []string{"--a", "--b", port}},
		{"no address", "8080", free, []string{"--a", "host:port"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := ports.Claim(map[string]*string{"--a": &tt.a, "--b": &tt.b})
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tt.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if err := ports.CheckFree("--free", free); err != nil {
				t.Errorf("a refused claim still holds a port: %v", err)
			}
		})
	}
}
