package hub

import "errors"

// Why there is no place for a connection.
var (
	// ErrFull: there are [Options.MaxConns] connections and places.
	ErrFull = errors.New("there are as many connections as may be")
	// ErrDraining: this node stops.
	ErrDraining = errors.New("the hub drains")
)

// Place is room for one connection. It is taken before it is known whether
// there will be one, so that the bound holds also while many wait to be let
// in.
type Place struct {
	hub  *Hub
	done bool
}

// Reserve takes a place, or returns ErrFull or ErrDraining. Whoever took it
// calls [Place.Release] in the end.
func (h *Hub) Reserve() (*Place, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.draining:
		return nil, ErrDraining
	case h.opts.MaxConns > 0 && h.count+h.reserved >= h.opts.MaxConns:
		return nil, ErrFull
	}
	h.reserved++
	return &Place{hub: h}, nil
}

// Release gives the place back, unless a connection has it.
func (p *Place) Release() {
	p.hub.mu.Lock()
	defer p.hub.mu.Unlock()
	p.end()
}

// end is called with Hub.mu held.
func (p *Place) end() {
	if !p.done {
		p.done = true
		p.hub.reserved--
	}
}

// NewConn registers a connection, which takes over the place. First are bytes
// that go out before all others, such as the headers of a response; nil: there
// are none. The connection's owner calls [Conn.Closed] once, when the socket is
// gone. NewConn returns ErrConnClosed while the hub drains. It is called once.
func (p *Place) NewConn(tr Transport, first []byte) (*Conn, error) {
	h := p.hub
	c := &Conn{hub: h, tr: tr, enc: tr.Encoding(), ids: true, part: first}
	if !tr.Direct() {
		c.wake = make(chan struct{}, 1)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	p.end()
	if h.draining {
		return nil, ErrConnClosed
	}
	h.register(c)
	return c, nil
}
