// Package cable takes a server away from a test, and gives it back, without
// touching the server.
package cable

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Cable is a TCP proxy that can be pulled out and put in again.
type Cable struct {
	// Addr is where it is to be connected to.
	Addr string
	to   string
	wait sync.WaitGroup

	mu     sync.Mutex
	pulled bool
	conns  map[net.Conn]struct{}
}

// New lays a cable to an address. It lasts as long as the test.
func New(t testing.TB, to string) *Cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &Cable{Addr: l.Addr().String(), to: to, conns: make(map[net.Conn]struct{})}
	c.wait.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.wait.Go(func() { c.carry(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		c.Pull()
		c.wait.Wait()
	})
	return c
}

// carry copies both ways until one side ends or the cable is pulled.
func (c *Cable) carry(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", c.to)
	if err != nil {
		return
	}
	defer out.Close()
	if !c.hold(in, out) {
		return
	}
	defer c.release(in, out)
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(in, out) // either side may end it
		in.Close()
	})
	_, _ = io.Copy(out, in)
	out.Close()
	back.Wait()
}

func (c *Cable) hold(conns ...net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pulled {
		return false
	}
	for _, conn := range conns {
		c.conns[conn] = struct{}{}
	}
	return true
}

func (c *Cable) release(conns ...net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range conns {
		delete(c.conns, conn)
	}
}

// Pull cuts all connections, and new ones at once.
func (c *Cable) Pull() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pulled = true
	for conn := range c.conns {
		conn.Close()
	}
}

// Plug lets connections be made again.
func (c *Cable) Plug() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pulled = false
}
