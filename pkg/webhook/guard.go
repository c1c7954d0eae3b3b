package webhook

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
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
	// but for those of [never].
	names map[string]bool
}

// ParseAllow reads entries such as 10.1.0.0/16, 127.0.0.1, 127.0.0.1:8081,
// [::1]:8081 and receiver.internal:8080.
func ParseAllow(entries ...string) (Allow, error) {
	a := Allow{names: make(map[string]bool)}
	for _, entry := range entries {
		entry = strings.TrimSpace(entry)
		if network, err := netip.ParsePrefix(entry); err == nil && (!network.Addr().Is4In6() || network.Bits() >= 96) {
			if network.Addr().Is4In6() {
				network = netip.PrefixFrom(network.Addr().Unmap(), network.Bits()-96)
			}
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
		// A name that the dialer would not know as the same must not be taken
		// in silence: the names of ports, and letters that DNS has not.
		host, port, err := net.SplitHostPort(entry)
		number, err2 := parsePort(port)
		if err != nil || err2 != nil || host == "" || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("/:@", r) }) {
			return Allow{}, fmt.Errorf("%q is neither a network such as 10.1.0.0/16 nor a host with its port such as receiver.internal:8080", entry)
		}
		a.names[net.JoinHostPort(strings.ToLower(host), strconv.Itoa(int(number)))] = true
	}
	return a, nil
}

// parsePort reads the number of a port.
func parsePort(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err == nil && n == 0 {
		err = strconv.ErrRange
	}
	return uint16(n), err
}

// azure is where Azure has what its machines are told, their certificates
// among it: a public address to everybody else.
var azure = netip.MustParsePrefix("168.63.129.16/32")

// never are networks that an allowed name does not lead to, whatever address
// it has: where clouds keep their metadata, link-local or not, and IPv6
// addresses that lead on to an IPv4 one, which may be one of those.
var never = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("fd00:ec2::254/128"), netip.MustParsePrefix("fd20:ce::254/128"),
	netip.MustParsePrefix("100.100.100.200/32"), netip.MustParsePrefix("192.0.0.192/32"), azure,
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), // NAT64
	netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("2001::/32"), // 6to4, Teredo
}

// oldMapped are the IPv4 addresses as IPv6 first had them, ::1 and :: among
// them, which are none.
var oldMapped = netip.MustParsePrefix("::/96")

// off reports an address that no allowed name leads to.
func off(addr netip.Addr) bool {
	if addr.Zone() != "" || oldMapped.Contains(addr) && !addr.IsLoopback() && !addr.IsUnspecified() {
		return true
	}
	return slices.ContainsFunc(never, func(network netip.Prefix) bool { return network.Contains(addr) })
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
	return &guard{a, ssrf.New(ssrf.WithAnyPort(), ssrf.WithDeniedV4Prefixes(azure), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...))}
}

// errForbidden is what the guard's errors wrap.
var errForbidden = errors.New("the address is not one that may be called; RUNCAST_PUSH_ALLOW names those that may although they are private")

// dialKey is under which a context has its dial.
type dialKey struct{}

// dial is one way to a receiver, which may have several addresses.
type dial struct {
	// name is the host and port that was asked for.
	name string
	// let says that one of the addresses may be called.
	let atomic.Bool
}

// control is a dialer's ControlContext: it is asked with the address right
// before the connection is made.
func (g *guard) control(ctx context.Context, network, address string, _ syscall.RawConn) error {
	place, err := netip.ParseAddrPort(address)
	if err != nil || network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("%w: %s %s", errForbidden, network, address)
	}
	d, _ := ctx.Value(dialKey{}).(*dial)
	if d == nil {
		return g.check(place, "")
	}
	if err := g.check(place, d.name); err != nil {
		return err
	}
	d.let.Store(true)
	return nil
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
	if slices.Contains(g.allow.places, place) || g.allow.names[strings.ToLower(name)] && !off(place.Addr()) {
		return nil
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
	return newGuard(a).check(netip.AddrPortFrom(addr, portOf(u)), "")
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
	if _, err := parsePort(u.Port()); u.Port() != "" && err != nil {
		return nil, fmt.Errorf("the webhook's URL has the port %q, and there is no such port", u.Port())
	}
	return u, nil
}

// portOf returns the port of a URL that parseURL has read.
func portOf(u *url.URL) uint16 {
	if port, err := parsePort(u.Port()); err == nil {
		return port
	}
	if u.Scheme == "https" {
		return 443
	}
	return 80
}

// hostPort returns what is dialled for a URL that parseURL has read.
func hostPort(u *url.URL) string {
	return net.JoinHostPort(u.Hostname(), strconv.Itoa(int(portOf(u))))
}
