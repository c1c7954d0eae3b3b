package embedded

import (
	"fmt"
	"net"
	"strconv"

	"github.com/alicebob/miniredis/v2"

	"github.com/runcast/runcast/cmd/dev/internal/ports"
)

// Redis is a Redis server in this process. Its data is in memory and ends
// with it.
type Redis struct {
	server *miniredis.Miniredis
	// Addr is where it listens: host and port.
	Addr string
}

// StartRedis returns once the server takes commands. A port of 0 in addr
// takes a free one.
func StartRedis(addr string) (*Redis, error) {
	host, port, err := ports.Split(addr)
	if err != nil {
		return nil, fmt.Errorf("--redis-addr: %w", err)
	}
	addr = net.JoinHostPort(host, strconv.Itoa(port))
	if err := ports.CheckFree("--redis-addr", addr); err != nil {
		return nil, err
	}
	server := miniredis.NewMiniRedis()
	// Keys expire as time goes by, as in a real one.
	server.ClockTTL(true)
	if err := server.StartAddr(addr); err != nil {
		return nil, fmt.Errorf("start the embedded Redis: %w", err)
	}
	return &Redis{server: server, Addr: server.Addr()}, nil
}

// Stop closes all connections and waits for their ends.
func (r *Redis) Stop() { r.server.Close() }
