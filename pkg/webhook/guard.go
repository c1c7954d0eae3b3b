package webhook

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"syscall"

	"code.dny.dev/ssrf"
)

// Allow names the addresses that may be called although they are private,
// loopback or otherwise not for strangers. The zero value names none.
type Allow struct {
	networks []netip.Prefix
	// places are addresses with one port each.
	places []netip.AddrPort
	// names are hosts with a port, in lower case: whatever address they have,
	// but for those where clouds keep their metadata.
	names map[string]bool
}

// ParseAllow reads entries such as 10.1.0.0/16, 127.0.0.1, 127.0.0.1:8081,
// [::1]:8081 and receiver.internal:8080.
func ParseAllow(entries ...string) (Allow, error) {
	a := Allow{names: make(map[string]bool)}
	for _, entry := range entries {
		entry = strings.TrimSpace(entry)
		if network, err := netip.ParsePrefix(entry); err == nil {
			a.networks = append(a.networks, network.Masked())
			continue
		}
		if addr, err := netip.ParseAddr(entry); err == nil && addr.Zone() == "" {
			addr = addr.Unmap()
			a.networks = append(a.networks, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		if place, err := netip.ParseAddrPort(entry); err == nil && place.Addr().Zone() == "" {
			a.places = append(a.places, netip.AddrPortFrom(place.Addr().Unmap(), place.Port()))
			continue
		}
		host, port, err := net.SplitHostPort(entry)
		if _, e := net.LookupPort("tcp", port); err != nil || e != nil || host == "" || strings.ContainsAny(host, "/:@ ") {
			return Allow{}, fmt.Errorf("%q is neither a network such as 10.1.0.0/16 nor a host with its port such as receiver.internal:8080", entry)
		}
		a.names[strings.ToLower(entry)] = true
	}
	return a, nil
}

// linkLocal is where clouds keep their metadata; those from the third on are
// places of some that are not link-local.
var linkLocal = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("fd00:ec2::254/128"),
	netip.MustParsePrefix("100.100.100.200/32"), netip.MustParsePrefix("192.0.0.192/32"),
}

// guard decides at dial time, by the address that a name turned out to have: a
// check before that would be worth nothing, since the name may have another
// one by then.
type guard struct {
	allow    Allow
	guardian *ssrf.Guardian
}

func newGuard(a Allow) *guard {
	var v4, v6 []netip.Prefix
	for _, network := range a.networks {
		if network.Addr().Is4() {
			v4 = append(v4, network)
		} else {
			v6 = append(v6, network)
		}
	}
	return &guard{a, ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...))}
}

// errForbidden is what the guard's errors wrap.
var errForbidden = errors.New("the address is not one that may be called; RUNCAST_PUSH_ALLOW names those that may although they are private")

// nameKey is under which a dial's context says which host and port was asked
// for.
type nameKey struct{}

// control is a dialer's ControlContext: it is asked with the address right
// before the connection is made.
func (g *guard) control(ctx context.Context, network, address string, _ syscall.RawConn) error {
	place, err := netip.ParseAddrPort(address)
	if err != nil || network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("%w: %s %s", errForbidden, network, address)
	}
	name, _ := ctx.Value(nameKey{}).(string)
	return g.check(place, name)
}

// check reports an address that may not be called; name is the host and port
// that it was found under, or "".
func (g *guard) check(place netip.AddrPort, name string) error {
	// An IPv4 address in IPv6 clothes is what it is.
	place = netip.AddrPortFrom(place.Addr().Unmap(), place.Port())
	err := g.guardian.SafeAddrPort(place)
	if err == nil {
		return nil
	}
	for _, p := range g.allow.places {
		if p == place {
			return nil
		}
	}
	if g.allow.names[strings.ToLower(name)] {
		near := place.Addr().Zone() != ""
		for _, network := range linkLocal {
			near = near || network.Contains(place.Addr())
		}
		if !near {
			return nil
		}
	}
	return fmt.Errorf("%w (%s)", errForbidden, place.Addr())
}

// CheckURL reports a URL that no webhook can be sent to: its error is for whom
// it was given by. A name is looked up, and its address checked, only when
// something is sent.
func (a Allow) CheckURL(raw string) error {
	u, err := parseURL(raw)
	if err != nil {
		return err
	}
	addr, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return nil // a name
	}
	port, err := net.LookupPort("tcp", hostPort(u)[strings.LastIndexByte(hostPort(u), ':')+1:])
	if err != nil {
		return fmt.Errorf("the webhook's URL has no such port: %q", u.Port())
	}
	return newGuard(a).check(netip.AddrPortFrom(addr, uint16(port)), "")
}

// parseURL reads the URL of a webhook.
func parseURL(raw string) (*url.URL, error) {
	if len(raw) > MaxURL {
		return nil, fmt.Errorf("the webhook's URL has %d bytes; %d are allowed", len(raw), MaxURL)
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("the webhook's URL cannot be read; it looks like https://receiver.example/runcast")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("the webhook's URL has the scheme %q; http and https are possible", u.Scheme)
	case u.Hostname() == "":
		return nil, errors.New("the webhook's URL names no host; it looks like https://receiver.example/runcast")
	case u.User != nil:
		return nil, errors.New("the webhook's URL holds a user or password, which histories and logs would show; take them out: the signature says who sends")
	}
	return u, nil
}

// hostPort returns what is dialled for a URL.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}
