//go:build !linux

package redisstore

import "net"

// Elsewhere reads are the ordinary ones.
func quiet(conn net.Conn) net.Conn { return conn }
