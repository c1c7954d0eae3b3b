package redisstore

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// errHungUp is what a dial gets that comes after a line's first.
var errHungUp = errors.New("the connection has ended")

// line is the one connection of a link. After an error the client would dial
// again, under the lock that closing it needs, and subscribe all channels in
// one command; a second dial of a line fails at once instead. Hanging up
// takes no lock of the client's.
type line struct {
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	within time.Duration // bounds the dial; 0: the dialer does

	mu   sync.Mutex
	used bool
	over bool
	conn net.Conn // nil until dialed
}

func (l *line) dialOnce(ctx context.Context, network, addr string) (net.Conn, error) {
	l.mu.Lock()
	refused := l.used || l.over
	l.used = true
	l.mu.Unlock()
	if refused {
		return nil, errHungUp
	}
	if l.within > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.within)
		defer cancel()
	}
	conn, err := l.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		_ = conn.Close()
		return nil, errHungUp
	}
	l.conn = quiet(conn)
	return l.conn, nil
}

// hangUp ends the connection and whatever waits for it.
func (l *line) hangUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	if l.conn != nil {
		// TLS says goodbye before it closes, which waits for a full socket.
		_ = l.conn.SetDeadline(time.Unix(1, 0))
		_ = l.conn.Close()
	}
}

// newLine returns a line to a node ("": the single server, or the primary
// that Sentinel names) and a client whose subscriptions use it.
func (s *Store) newLine(node string) (*line, *redis.Client) {
	l := &line{}
	if s.cluster != nil {
		o := nodeOptions(s.topology.opts, node)
		l.within, l.dial = o.DialTimeout, o.Dialer
		if l.dial == nil {
			l.dial = redis.NewDialer(o)
		}
		o.Dialer = l.dialOnce
		return l, newClient(s.topology.opts, o)
	}
	o := *s.single.Options()
	// Sentinel is asked by the dialer, and that may take longer.
	l.dial, o.Dialer = o.Dialer, l.dialOnce
	o.MinIdleConns, o.MaintNotificationsConfig = 0, noNotices()
	o.ReadTimeout, o.WriteTimeout = probeWithin, probeWithin
	return l, redis.NewClient(&o)
}
