// Package ws carries a hub's frames as WebSocket messages.
//
// The library does the handshake, reads, and makes control frames. What it
// writes goes to the hub's connection, which sends whole control frames
// between whole data frames; data frames are made once per topic, by the hub.
package ws

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/runcast/runcast/subscriber/hub"
)

// Subprotocol is the form of the messages, version 1.
const Subprotocol = "runcast.v1.json"

// Options of one connection.
type Options struct {
	// Many says that frames name their topic, and that the client may send
	// messages.
	Many bool
	// Quiet closes the connection right after the handshake: the client has
	// everything already.
	Quiet bool
	// Begin follows the first topics.
	Begin func(c *hub.Conn)
	// Message takes one message of the client; an error ends the connection.
	// Nil: the client may send none.
	Message func(c *hub.Conn, data []byte) error
	// MaxMessage bounds a message of the client, in bytes.
	MaxMessage int64
	// WriteDeadline is how long the socket may take nothing.
	WriteDeadline time.Duration
	// Retry and DrainSpread: how long a client is told to wait when this
	// node stops.
	Retry, DrainSpread time.Duration
}

// missedPongs is how many heartbeats may stay unanswered.
const missedPongs = 2

// transport is one WebSocket.
type transport struct {
	o      Options
	sock   *hub.Socket
	direct bool
	lib    *websocket.Conn
	// unanswered counts the pings since the last pong.
	unanswered atomic.Int32
}

// Serve answers the request with a WebSocket, in the place that was taken for
// it, and returns once it is open. An error means that the handshake failed;
// it has been answered. The caller has checked that the request's origin may
// connect.
func Serve(w http.ResponseWriter, r *http.Request, place *hub.Place, o Options) error {
	t := &transport{o: o}
	hw := &hijacker{ResponseWriter: w, t: t}
	lib, err := websocket.Accept(hw, r, &websocket.AcceptOptions{
		Subprotocols:    []string{Subprotocol},
		CompressionMode: websocket.CompressionDisabled,
		OnPongReceived:  func(context.Context, []byte) { t.unanswered.Store(0) },
		// The caller has checked the origin, as it does for every route.
		InsecureSkipVerify: true,
	})
	if err != nil {
		return err
	}
	t.lib = lib
	lib.SetReadLimit(o.MaxMessage)
	c, err := place.NewConn(t, nil)
	hw.conn.hub = c
	close(hw.conn.ready)
	if err != nil {
		t.sock.Close()
		return nil // drained between the check and here; it reconnects
	}
	if o.Quiet {
		c.Shut(hub.CloseEnd)
	} else {
		o.Begin(c) // before the client's own messages are read
	}
	// The handler returns, so that its stack and the server's buffers go; the
	// reader is the connection's own goroutine, and the hub waits for it.
	go t.read(c)
	if !t.direct {
		c.ServeInBackground() // until the reader ends it
	}
	return nil
}

// read reads until the connection is over.
func (t *transport) read(c *hub.Conn) {
	why := hub.CloseClient
	for {
		// The library reads in the background context: the hub ends it by
		// closing the socket.
		typ, data, err := t.lib.Read(context.Background())
		if err != nil {
			break
		}
		if t.o.Message == nil || typ != websocket.MessageText {
			err = errors.New("this stream takes no messages")
			if t.o.Message != nil {
				err = errors.New("messages are JSON text")
			}
		} else {
			err = t.o.Message(c, data)
		}
		if err != nil {
			why = hub.CloseProtocol
			_ = t.lib.Close(websocket.StatusPolicyViolation, clip(err.Error()))
			break
		}
	}
	// This also waits for a Close that is under way, which ends now.
	_ = t.lib.CloseNow()
	t.sock.Close()
	c.Closed(why)
}

// clip bounds the reason of a close frame, of which a frame holds 123 bytes.
func clip(s string) string { return s[:min(len(s), 120)] }

func (t *transport) Name() string { return "ws" }

func (t *transport) Encoding() hub.Encoding {
	if t.o.Many {
		return hub.WebSocketMany
	}
	return hub.WebSocket
}

func (t *transport) Direct() bool                   { return t.direct }
func (t *transport) TryWrite(p []byte) (int, error) { return t.sock.TryWrite(p) }
func (t *transport) Write(p []byte) (int, error)    { return t.sock.Write(p) }

// tryLater is a close frame with code 1013 (try again later), for a client
// that does not take what is for it.
var tryLater = []byte{0x88, 2, 1013 >> 8, 1013 & 0xFF}

func (t *transport) Farewell(why hub.CloseReason) []byte {
	switch why {
	case hub.CloseSlow, hub.CloseDead, hub.CloseControl:
		return tryLater
	}
	return nil
}

// ping is a ping frame without payload.
var ping = []byte{0x89, 0x00}

func (t *transport) Heartbeat() ([]byte, bool) {
	if t.unanswered.Add(1) > missedPongs {
		return nil, false
	}
	return ping, true
}

// Finish closes with the handshake: the library writes the close frame
// through the hub, and waits for the client's, up to five seconds each. The
// goroutine ends the reader, for which the hub waits.
func (t *transport) Finish(why hub.CloseReason) {
	code, reason := websocket.StatusNormalClosure, ""
	if why == hub.CloseDrain {
		code = websocket.StatusServiceRestart
		reason = fmt.Sprintf("reconnect in %d ms", (t.o.Retry + rand.N(t.o.DrainSpread+1)).Milliseconds())
	}
	go func() { _ = t.lib.Close(code, reason) }() // the client may be gone already
}

func (t *transport) Abort(hub.CloseReason) { t.sock.Abort() }

// hijacker gives the library a connection whose writes go to the hub, with
// buffers of its own size in place of the server's.
type hijacker struct {
	http.ResponseWriter
	t    *transport
	conn *conn
}

// A control frame has up to 125 bytes of payload and 2 of header; in a buffer
// that holds more, each is one write. Reads are small: pongs and requests.
const (
	libWriteBuffer = 144
	libReadBuffer  = 128
)

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	raw, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	_ = raw.SetDeadline(time.Time{}) // those of the request are over
	h.t.sock = hub.NewSocket(raw, h.t.o.WriteDeadline)
	h.t.direct = h.t.sock.Direct()
	h.conn = &conn{Conn: raw, sock: h.t.sock, ready: make(chan struct{})}
	// What the client sent right behind its request is not lost.
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	h.conn.early = append([]byte(nil), early...)
	return h.conn, bufio.NewReadWriter(
		bufio.NewReaderSize(h.conn, libReadBuffer), bufio.NewWriterSize(h.conn, libWriteBuffer)), nil
}

// conn is the socket as the library sees it.
type conn struct {
	net.Conn
	sock  *hub.Socket
	early []byte
	// hub is nil if the connection was not let in. It is set when ready is
	// closed; the library may have something to write before.
	hub   *hub.Conn
	ready chan struct{}
}

func (c *conn) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// Write takes whole control frames: the library's buffer is larger than any.
func (c *conn) Write(p []byte) (int, error) {
	<-c.ready
	if c.hub == nil {
		return 0, net.ErrClosed
	}
	if err := c.hub.Control(p); err != nil {
		return 0, net.ErrClosed
	}
	return len(p), nil
}

func (c *conn) Close() error {
	c.sock.Close()
	return nil
}
