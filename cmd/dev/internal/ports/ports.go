// Package ports reads the addresses that a process is to listen on, and
// reports those that it cannot have before anything starts.
package ports

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
)

// Split reads "host:port" with a numeric port; an empty host is loopback,
// because nothing here has authentication.
func Split(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not host:port: %w", addr, err)
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("%q: the port is not a number up to 65535", addr)
	}
	if host == "" || host == "localhost" {
		host = "127.0.0.1"
	}
	return host, port, nil
}

// CheckFree reports a port that is taken, before a server that would say so
// less clearly, or only in its log, tries it.
func CheckFree(flag, addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return taken(flag, addr, err)
	}
	return l.Close()
}

func taken(flag, addr string, err error) error {
	return fmt.Errorf("%s: %s is taken; give another one with %s: %w", flag, addr, flag, err)
}

// Claim makes all addresses explicit: hosts as [Split] reads them, and free
// ports in place of 0. It reports an address that is taken, or given twice.
// Keys are the flags that hold the addresses.
func Claim(addrs map[string]*string) error {
	// All are held until the last one is known: so none is given out twice,
	// and two that cannot be had together are found, however they are spelled.
	held := make(map[string]net.Listener)
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	for _, flag := range slices.Sorted(maps.Keys(addrs)) {
		host, port, err := Split(*addrs[flag])
		if err != nil {
			return fmt.Errorf("%s: %w", flag, err)
		}
		addr := net.JoinHostPort(host, strconv.Itoa(port))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			for _, other := range slices.Sorted(maps.Keys(held)) {
				if portOf(held[other]) == port {
					return fmt.Errorf("%s and %s are both %s; give one of them another port", other, flag, addr)
				}
			}
			return taken(flag, addr, err)
		}
		held[flag] = l
		*addrs[flag] = net.JoinHostPort(host, strconv.Itoa(portOf(l)))
	}
	return nil
}

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }
