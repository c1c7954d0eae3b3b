// Command naive is what one writes first: an HTTP handler for each viewer,
// and in it a Redis subscription of its own.
//
// It answers GET /v1/workflows/{id}/stream and …/ws.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/coder/websocket"
	"github.com/redis/go-redis/v9"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8091", "`address` to listen on, of this machine's loopback")
	redisAddr := flag.String("redis", "127.0.0.1:6379", "`address` of Redis")
	flag.Parse()
	log.SetFlags(0)
	log.SetPrefix("naive: ")
	if err := run(*addr, *redisAddr); err != nil {
		log.Print(err)
		os.Exit(2)
	}
}

// run serves until it fails.
func run(addr, redisAddr string) error {
	if a, err := net.ResolveTCPAddr("tcp", addr); err != nil || !a.IP.IsLoopback() {
		return fmt.Errorf("-addr %s: only this machine's loopback is served", addr)
	}
	s := &server{redis: redis.NewClient(&redis.Options{Addr: redisAddr})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/workflows/{id}/stream", s.stream)
	mux.HandleFunc("GET /v1/workflows/{id}/ws", s.socket)
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	return http.ListenAndServe(addr, mux)
}

type server struct{ redis *redis.Client }

// subscribe returns the viewer's own subscription, once Redis has it.
func (s *server) subscribe(w http.ResponseWriter, r *http.Request) *redis.PubSub {
	sub := s.redis.Subscribe(r.Context(), "workflow:{"+r.PathValue("id")+"}:updates")
	if _, err := sub.Receive(r.Context()); err != nil {
		_ = sub.Close()
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return nil
	}
	return sub
}

func (s *server) stream(w http.ResponseWriter, r *http.Request) {
	sub := s.subscribe(w, r)
	if sub == nil {
		return
	}
	defer sub.Close()
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w).Flush
	if flush() != nil {
		return
	}
	messages := sub.Channel()
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				return
			}
			fmt.Fprintf(w, "event: update\ndata: %s\n\n", m.Payload)
			if flush() != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

func (s *server) socket(w http.ResponseWriter, r *http.Request) {
	sub := s.subscribe(w, r)
	if sub == nil {
		return
	}
	defer sub.Close()
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"runcast.v1.json"}})
	if err != nil {
		return
	}
	defer conn.CloseNow()
	ctx := conn.CloseRead(r.Context())
	messages := sub.Channel()
	for {
		select {
		case m, ok := <-messages:
			if !ok || conn.Write(ctx, websocket.MessageText, []byte(m.Payload)) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
