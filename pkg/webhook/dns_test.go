package webhook_test

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// names is a DNS server on loopback that gives each name the addresses that a
// test wants, one after the other; the last one stays. Those that are together
// are all in one answer.
type names struct {
	mu       sync.Mutex
	addrs    map[string][]netip.Addr
	together map[string][]netip.Addr
	asked    map[string]int
}

// resolver starts the server and returns what asks it.
func (n *names) resolver(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		buf := make([]byte, 1500)
		for {
			size, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer := n.answer(buf[:size]); answer != nil {
				conn.WriteTo(answer, from) //nolint:errcheck // it is asked again
			}
		}
	})
	t.Cleanup(func() { conn.Close(); serving.Wait() })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// count returns how often the name's address was asked for.
func (n *names) count(name string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked[name]
}

func (n *names) answer(query []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Response, m.Additionals = true, nil
	n.mu.Lock()
	defer n.mu.Unlock()
	name := strings.ToLower(q.Name.String())
	addrs, known := n.addrs[name]
	all, several := n.together[name]
	switch {
	case several:
		for _, addr := range all {
			switch {
			case q.Type == dnsmessage.TypeAAAA && addr.Is6(), q.Type == dnsmessage.TypeA && addr.Is4():
				m.Answers = append(m.Answers, resource(q, addr))
			}
		}
	case !known:
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeAAAA && addrs[0].Is6():
		m.Answers = []dnsmessage.Resource{resource(q, addrs[0])}
	case q.Type == dnsmessage.TypeA && addrs[0].Is4():
		n.asked[name]++
		addr := addrs[0]
		if len(addrs) > 1 {
			n.addrs[name] = addrs[1:]
		}
		m.Answers = []dnsmessage.Resource{resource(q, addr)}
	}
	packed, err := m.Pack()
	if err != nil {
		return nil
	}
	return packed
}

// resource answers a question with an address.
func resource(q dnsmessage.Question, addr netip.Addr) dnsmessage.Resource {
	r := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 0}}
	if addr.Is6() {
		r.Body = &dnsmessage.AAAAResource{AAAA: addr.As16()}
	} else {
		r.Body = &dnsmessage.AResource{A: addr.As4()}
	}
	return r
}
