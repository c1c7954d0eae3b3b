package hub

import (
	"encoding/json"
	"net"
	"testing"
)

func mustDecode(data []byte, v any) {
	if err := json.Unmarshal(data, v); err != nil {
		panic(err)
	}
}

func ptr[T any](v T) *T { return &v }

func closedChan() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// connect makes a connection, as a handler does that is let in.
func connect(h *Hub, tr Transport) (*Conn, error) {
	place, err := h.Reserve()
	if err != nil {
		return nil, err
	}
	return place.NewConn(tr, nil)
}

// tcpPair returns both ends of a connection.
func tcpPair(t testing.TB) (ours, peer *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	dialed, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	peer = dialed.(*net.TCPConn)
	t.Cleanup(func() { _, _ = accepted.Close(), dialed.Close() })
	return accepted.(*net.TCPConn), peer
}
