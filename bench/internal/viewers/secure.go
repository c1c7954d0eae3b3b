package viewers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Secure is how viewers connect.
type Secure string

// The ways.
const (
	Clear Secure = ""    // HTTP/1.1 in the clear, all in one thread
	TLS   Secure = "tls" // HTTP/1.1 over TLS, a goroutine for each
	HTTP2 Secure = "h2"  // HTTP/2 over TLS, a goroutine for each hundred
)

// dialWithin is how long a handshake may take, maxDialing how many are under
// way.
const (
	dialWithin = 20 * time.Second
	maxDialing = 64
)

// secure is what there is over TLS: goroutines in place of the thread. Who
// holds the lock is the thread.
type secure struct {
	mu      sync.Mutex
	conns   []net.Conn
	wg      sync.WaitGroup
	dialing chan struct{}
}

// checkSecure reports what is not possible over TLS.
func (v *Viewers) checkSecure() error {
	v.secure.dialing = make(chan struct{}, maxDialing)
	switch {
	case v.c.Secure != TLS && v.c.Secure != HTTP2:
		return fmt.Errorf("unknown way to connect %q; use %s or %s", v.c.Secure, TLS, HTTP2)
	case v.c.Secure == HTTP2 && (v.c.WebSocket || v.c.Mixed):
		return errors.New("a WebSocket over HTTP/2 is not possible")
	case v.c.Spread > 0:
		return errors.New("viewers that come at once, ready or not, come in the clear only")
	}
	return nil
}

// openSecure begins connections until there are as many as wanted.
func (v *Viewers) openSecure() {
	for i := v.opened(); i < v.want; {
		n := 1
		if v.c.Secure == HTTP2 {
			n = min(streamsPerConn, v.want-i)
		}
		some := v.all[i : i+n]
		for k := range some {
			some[k] = v.newViewer(i+k, time.Now())
		}
		v.opening += n
		i += n
		v.secure.wg.Go(func() {
			if err := v.connectSecure(some); err != nil {
				v.do(func() {
					if !v.stopping {
						v.fail(fmt.Errorf("connection %d: %w", some[0].index+1, err))
					}
				})
			}
		})
	}
}

// connectSecure holds one connection until it breaks.
func (v *Viewers) connectSecure(some []viewer) error {
	v.secure.dialing <- struct{}{}
	conn, err := v.dial()
	<-v.secure.dialing
	if err != nil {
		return err
	}
	defer conn.Close()
	began := false
	v.do(func() {
		if began = !v.stopping; began {
			v.secure.conns = append(v.secure.conns, conn)
		}
	})
	switch {
	case !began:
		return nil
	case v.c.Secure == HTTP2:
		return v.streams(conn, some)
	}
	return v.overTLS(conn, &some[0])
}

func (v *Viewers) dial() (*tls.Conn, error) {
	proto := "http/1.1"
	if v.c.Secure == HTTP2 {
		proto = "h2"
	}
	// The server is on this machine and has made its certificate itself.
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{proto}}}
	ctx, cancel := context.WithTimeout(context.Background(), dialWithin)
	defer cancel()
	c, err := d.DialContext(ctx, "tcp4", v.c.Server)
	if err != nil {
		return nil, err
	}
	conn := c.(*tls.Conn)
	if got := conn.ConnectionState().NegotiatedProtocol; got != proto && (got != "" || v.c.Secure == HTTP2) {
		_ = conn.Close()
		return nil, fmt.Errorf("the server speaks %q, not %s", got, proto)
	}
	return conn, nil
}

// overTLS reads one viewer's stream.
func (v *Viewers) overTLS(conn net.Conn, w *viewer) error {
	var err error
	v.do(func() {
		w.conn, w.state = conn, asked
		err = w.send(v.head(w))
	})
	if err != nil {
		return err
	}
	buf := make([]byte, 8<<10)
	for {
		n, err := conn.Read(buf)
		here := false
		v.do(func() {
			if here = w.state != gone; here && n > 0 {
				v.feed(w, buf[:n])
			}
			if here = w.state != gone; here && err != nil {
				v.lose(w, err)
				here = false
			}
			v.settle()
		})
		if !here {
			return nil
		}
	}
}

// feed goes on with what a viewer got.
func (v *Viewers) feed(w *viewer, b []byte) {
	kept := copy(v.buf, w.rest)
	n := copy(v.buf[kept:], b)
	if n < len(b) {
		v.lose(w, errFrame)
		return
	}
	v.took(w, kept, n)
}

func (v *Viewers) closeSecure() {
	v.do(func() {
		v.stopping = true
		for i := range v.all {
			v.all[i].state = gone
		}
		for _, c := range v.secure.conns {
			_ = c.Close()
		}
	})
	v.secure.wg.Wait()
}
