// Command floor is what no server of its kind can do without: one connection
// to Redis, subscribed to each workflow that somebody follows, each message
// encoded once, one write(2) per viewer. It keeps none of the subscriber's
// promises; it is what they are measured against.
//
// It answers GET /v1/workflows/{id}/stream with Server-Sent Events and …/ws
// with a WebSocket, in the subscriber's form.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8090", "`address` to listen on, of this machine's loopback")
	redisAddr := flag.String("redis", "127.0.0.1:6379", "`address` of Redis")
	flag.Parse()
	log.SetFlags(0)
	log.SetPrefix("floor: ")
	if err := run(*addr, *redisAddr); err != nil {
		log.Print(err)
		os.Exit(2)
	}
}

// run serves until something fails.
func run(addr, redisAddr string) error {
	redis, err := net.Dial("tcp", redisAddr)
	if err != nil {
		return fmt.Errorf("connect to Redis: %w", err)
	}
	defer redis.Close()
	v := &viewers{redis: redis, topics: make(map[string]*topic)}
	failed := make(chan error, 2)
	go func() { failed <- listen(addr, v) }()
	go func() { failed <- fanOut(redis, v) }()
	return <-failed
}

// fanOut reads messages, arrays of three bulk strings, and writes each to all.
func fanOut(redis net.Conn, v *viewers) error {
	r := bufio.NewReaderSize(redis, 64<<10)
	var word []byte
	for {
		n, err := length(r, '*')
		if err != nil {
			return err
		}
		message, t := false, (*topic)(nil)
		for i := range n {
			head, err := r.Peek(1)
			if err != nil {
				return fmt.Errorf("read from Redis: %w", err)
			}
			if head[0] == ':' { // the count in the confirmation
				_, err = r.ReadSlice('\n')
			} else {
				word, err = bulk(r, word)
			}
			if err != nil {
				return fmt.Errorf("read from Redis: %w", err)
			}
			switch {
			case i == 0:
				message = string(word) == "message"
			case i == 1 && message:
				t = v.topic(word)
			case i == 2 && t != nil:
				v.deliver(t, word)
			}
		}
	}
}

func length(r *bufio.Reader, kind byte) (int, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return 0, fmt.Errorf("read from Redis: %w", err)
	}
	if len(line) < 4 || line[0] != kind {
		return 0, fmt.Errorf("read from Redis: unexpected %q", line)
	}
	return strconv.Atoi(string(line[1 : len(line)-2]))
}

// bulk reads a bulk string into buf.
func bulk(r *bufio.Reader, buf []byte) ([]byte, error) {
	n, err := length(r, '$')
	if err != nil {
		return nil, err
	}
	if cap(buf) < n+2 {
		buf = make([]byte, n+2)
	}
	buf = buf[:n+2]
	for at := 0; at < len(buf); {
		m, err := r.Read(buf[at:])
		if err != nil {
			return nil, err
		}
		at += m
	}
	return buf[:n], nil
}
