package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// listen takes viewers on, one after the other, on bare sockets.
func listen(addr string, v *viewers) error {
	tcp, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return err
	}
	if !tcp.IP.IsLoopback() {
		return fmt.Errorf("-addr %s: only this machine's loopback is served", addr)
	}
	at := &unix.SockaddrInet4{Port: tcp.Port}
	copy(at.Addr[:], tcp.IP.To4())
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("prepare the socket: %w", err)
	}
	if err := unix.Bind(fd, at); err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	const backlog = 4096
	if err := unix.Listen(fd, backlog); err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	for {
		conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		if err == unix.EINTR || err == unix.ECONNABORTED {
			continue
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		if err := welcome(conn, v); err != nil {
			return err
		}
	}
}

// welcome answers the request and makes the socket a viewer's. A client has
// a second to send its request: the next ones wait for it. An error means that
// Redis is gone.
func welcome(fd int, v *viewers) error {
	timeout := unix.NsecToTimeval(time.Second.Nanoseconds())
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	path, key, ok := request(fd)
	workflow, form, _ := strings.Cut(strings.TrimPrefix(path, "/v1/workflows/"), "/")
	var hello string
	ws := form == "ws"
	switch {
	case !ok:
	case ws && key != "":
		hello = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " + accept(key) + "\r\n\r\n"
	case form == "stream":
		hello = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream\r\n\r\n"
	default:
		_, _ = syscall.Write(fd, []byte("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
	}
	if hello == "" || unix.SetNonblock(fd, true) != nil {
		_ = unix.Close(fd)
		return nil
	}
	// Before the viewer is answered: what is written from then on comes here.
	t, err := v.follow(workflow)
	if err != nil {
		return err
	}
	if _, err := syscall.Write(fd, []byte(hello)); err != nil {
		_ = unix.Close(fd)
		return nil
	}
	v.add(t, fd, ws)
	return nil
}

func request(fd int) (path, key string, ok bool) {
	var buf [4096]byte
	n := 0
	for n < len(buf) && !bytes.Contains(buf[:n], []byte("\r\n\r\n")) {
		m, err := unix.Read(fd, buf[n:])
		if err != nil || m == 0 {
			return "", "", false
		}
		n += m
	}
	lines := strings.Split(string(buf[:n]), "\r\n")
	words := strings.Fields(lines[0])
	if len(words) != 3 {
		return "", "", false
	}
	path, _, _ = strings.Cut(words[1], "?")
	for _, line := range lines[1:] {
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "Sec-WebSocket-Key") {
			key = strings.TrimSpace(value)
		}
	}
	return path, key, true
}

func accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
