// Package sse carries a hub's frames as Server-Sent Events.
//
// It knows nothing of topics beyond passing them on. A plain HTTP/1.1
// connection is hijacked, so that the hub writes to its socket; one over TLS
// or HTTP/2 keeps its handler goroutine, which writes.
package sse

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/subscriber/hub"
)

// Options of one stream.
type Options struct {
	// Topics are followed in this order, which is that of the composite id.
	Topics []Topic
	// Many says that frames name their topic.
	Many bool
	// NoIDs leaves the composite id out.
	NoIDs bool
	// WriteDeadline is how long the socket may take nothing.
	WriteDeadline time.Duration
	// Retry is how long the client should wait before it reconnects.
	Retry time.Duration
	// DrainSpread is the most that a client is told to wait when this node
	// stops, so that not all reconnect at once.
	DrainSpread time.Duration
}

// Topic is one topic and where to begin.
type Topic struct {
	Name progress.Topic
	Want hub.Want
}

// lastRead is how long the end of a stream may take to reach the client.
const lastRead = 3 * time.Second

// Serve answers the request with a stream, in the place that was taken for
// it. It returns at once for a hijacked connection, else when the stream has
// ended. An error means that nothing was answered.
func Serve(w http.ResponseWriter, r *http.Request, place *hub.Place, o Options) error {
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	// Whatever stands between must neither keep, compress nor collect it.
	header.Set("Cache-Control", "no-store, no-transform")
	header.Set("X-Accel-Buffering", "no")
	header.Set("X-Content-Type-Options", "nosniff")
	hello := fmt.Appendf(nil, "retry: %d\n\n", o.Retry.Milliseconds())
	if r.ProtoMajor == 1 && r.TLS == nil {
		if hj, ok := w.(http.Hijacker); ok {
			return serveHijacked(hj, header, hello, place, o)
		}
	}
	return serveOrdinary(w, r, hello, place, o)
}

// transport is what both ways share.
type transport struct {
	o Options
}

func (t *transport) Name() string { return "sse" }

func (t *transport) Encoding() hub.Encoding {
	if t.o.Many {
		return hub.SSEMany
	}
	return hub.SSE
}

var comment = []byte(":\n\n")

func (t *transport) Heartbeat() ([]byte, bool) { return comment, true }

func (t *transport) Farewell(why hub.CloseReason) []byte {
	if why != hub.CloseDrain {
		return nil
	}
	return fmt.Appendf(nil, "retry: %d\n\n", (t.o.Retry + rand.N(t.o.DrainSpread+1)).Milliseconds())
}

func follow(c *hub.Conn, o Options) {
	if o.NoIDs {
		c.NoIDs()
	}
	for _, t := range o.Topics {
		if c.Follow(t.Name, t.Want) != nil {
			return // it has been closed meanwhile; its owner sees that
		}
	}
}

// direct is a hijacked socket that the hub writes to.
type direct struct {
	transport
	*hub.Socket
	conn net.Conn
}

func serveHijacked(hj http.Hijacker, header http.Header, hello []byte, place *hub.Place, o Options) error {
	// The answer ends with the connection, as in HTTP/1.0: so frames can be
	// written as they are, without a chunk around each viewer's batch.
	var first bytes.Buffer
	first.WriteString("HTTP/1.1 200 OK\r\n")
	header.Set("Connection", "close")
	header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	_ = header.Write(&first) // to memory
	first.WriteString("\r\n")
	first.Write(hello)

	conn, _, err := hj.Hijack()
	if err != nil {
		return fmt.Errorf("take over the connection: %w", err)
	}
	_ = conn.SetDeadline(time.Time{}) // those of the request are over
	t := &direct{transport: transport{o}, Socket: hub.NewSocket(conn, o.WriteDeadline), conn: conn}
	c, err := place.NewConn(t, first.Bytes())
	if err != nil {
		_ = conn.Close() // drained between the check and here; it reconnects
		return nil
	}
	go read(t, c)
	if !t.Direct() {
		c.ServeInBackground() // until the reader ends it
	}
	follow(c, o)
	return nil
}

// read waits until the client goes away. It is the connection's own
// goroutine, with a shallow stack, and ends it; the hub waits for it.
func read(t *direct, c *hub.Conn) {
	var one [1]byte
	for {
		// What a client might send on a stream means nothing.
		if _, err := t.conn.Read(one[:]); err != nil {
			break
		}
	}
	t.Close()
	c.Closed(hub.CloseClient)
}

// Finish lets the client read what was written, then closes.
func (t *direct) Finish(hub.CloseReason) {
	_ = t.conn.SetReadDeadline(time.Now().Add(lastRead)) // the reader closes
	t.CloseWrite()
}

func (t *direct) Abort(hub.CloseReason) { t.Close() }

// ordinary is a response written by its handler.
type ordinary struct {
	transport
	w        http.ResponseWriter
	rc       *http.ResponseController
	deadline time.Duration

	// over says that the handler returns: the response is no longer there for
	// Abort, which others call.
	mu   sync.Mutex
	over bool
}

func serveOrdinary(w http.ResponseWriter, r *http.Request, hello []byte, place *hub.Place, o Options) error {
	t := &ordinary{transport: transport{o}, w: w, rc: http.NewResponseController(w), deadline: o.WriteDeadline}
	c, err := place.NewConn(t, hello)
	if err != nil {
		return err
	}
	defer c.Closed(hub.CloseClient)
	defer t.leave()
	w.WriteHeader(http.StatusOK)
	follow(c, o)
	c.Serve(r.Context())
	return nil
}

func (t *ordinary) Direct() bool                 { return false }
func (t *ordinary) TryWrite([]byte) (int, error) { return 0, http.ErrNotSupported }

// chunk is how much is written under one deadline, so that a client that is
// slow but alive is not taken for stuck.
const chunk = 4 << 10

// Write leaves no deadline behind: over HTTP/2 it would reset the stream once
// it is over, though nothing is being written. A server that cannot set
// deadlines has its own.
func (t *ordinary) Write(p []byte) (written int, err error) {
	defer func() {
		if err == nil {
			_ = t.rc.SetWriteDeadline(time.Time{})
		}
	}()
	for written < len(p) {
		_ = t.rc.SetWriteDeadline(time.Now().Add(t.deadline))
		n, err := t.w.Write(p[written:min(len(p), written+chunk)])
		written += n
		if err != nil {
			return written, err
		}
	}
	_ = t.rc.SetWriteDeadline(time.Now().Add(t.deadline))
	return written, t.rc.Flush()
}

// Finish has nothing to do: the handler returns.
func (t *ordinary) Finish(hub.CloseReason) {}

// Abort has a write that is under way fail; else the handler returns.
func (t *ordinary) Abort(hub.CloseReason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		_ = t.rc.SetWriteDeadline(time.Now()) // as above
	}
}

func (t *ordinary) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
}
