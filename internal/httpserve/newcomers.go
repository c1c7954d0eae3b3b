package httpserve

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// sayWithin is how long a connection may still take to send its request once
// the server is told to stop: what is on its way is answered.
const sayWithin = 500 * time.Millisecond

// Newcomers are the connections of one server that have not sent a request
// yet. Browsers open some ahead of need, and http.Server.Shutdown waits five
// seconds for each. The zero value has none.
type Newcomers struct {
	mu      sync.Mutex
	conns   map[net.Conn]struct{}
	leaving bool
}

// Watch is the server's ConnState.
func (n *Newcomers) Watch(c net.Conn, state http.ConnState) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(n.conns, c)
	case n.leaving:
		_ = c.Close() // it has said nothing
	default:
		if n.conns == nil {
			n.conns = make(map[net.Conn]struct{})
		}
		n.conns[c] = struct{}{}
	}
}

// Shutdown is that of the server, but waits for newcomers no longer than a
// moment.
func (n *Newcomers) Shutdown(ctx context.Context, server *http.Server) error {
	moment := time.AfterFunc(sayWithin, n.leave)
	defer moment.Stop()
	return server.Shutdown(ctx)
}

func (n *Newcomers) leave() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leaving = true
	for c := range n.conns {
		_ = c.Close() // it has said nothing
	}
}
