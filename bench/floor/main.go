// Command floor is what no server of its kind can do without: one Redis
// subscription, each message encoded once, one write(2) per viewer. It keeps
// none of the subscriber's promises; it is what they are measured against.
//
// It answers GET …/stream with Server-Sent Events and GET …/ws with a
// WebSocket, of one workflow, in the subscriber's form.
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
	channel := flag.String("channel", "", "the `channel` to subscribe to, such as workflow:{ID}:updates")
	flag.Parse()
	log.SetFlags(0)
	log.SetPrefix("floor: ")
	if err := run(*addr, *redisAddr, *channel); err != nil {
		log.Print(err)
		os.Exit(2)
	}
}

// run serves until something fails.
func run(addr, redisAddr, channel string) error {
	if channel == "" {
		return fmt.Errorf("-channel is missing")
	}
	sub, err := subscribe(redisAddr, channel)
	if err != nil {
		return err
	}
	defer sub.Close()
	v := &viewers{}
	failed := make(chan error, 2)
	go func() { failed <- listen(addr, v) }()
	go func() { failed <- fanOut(sub, v) }()
	return <-failed
}

// subscribe returns the connection once it is asked for the channel.
func subscribe(redisAddr, channel string) (net.Conn, error) {
	c, err := net.Dial("tcp", redisAddr)
	if err != nil {
		return nil, fmt.Errorf("connect to Redis: %w", err)
	}
	if _, err := fmt.Fprintf(c, "*2\r\n$9\r\nSUBSCRIBE\r\n$%d\r\n%s\r\n", len(channel), channel); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	return c, nil
}

// fanOut reads messages, arrays of three bulk strings, and writes each to all.
func fanOut(sub net.Conn, v *viewers) error {
	r := bufio.NewReaderSize(sub, 64<<10)
	var word []byte
	for {
		n, err := length(r, '*')
		if err != nil {
			return err
		}
		message := false
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
			case i == 2 && message:
				v.deliver(word)
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
