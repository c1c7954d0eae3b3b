package subscriber

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/runcast/runcast/internal/httpserve"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/subscriber/hub"
)

// Options are what a server is made of.
type Options struct {
	// Store is where workflows are read from. The server does not close it.
	Store *redisstore.Store
	// Page answers what no route has; nil: nothing does.
	Page   http.Handler
	Logger *slog.Logger
	Config Config
	// Registry takes the metrics and is what /metrics shows; nil is a new one.
	Registry *prometheus.Registry
}

// Server is the service. Start and Stop may each be called twice.
type Server struct {
	o        Options
	streams  *Streams
	source   *Source
	handler  http.Handler
	draining atomic.Bool
	proved   atomic.Bool // a stream was opened since Redis was last away

	addr atomic.Pointer[net.Addr] // where Start listens

	mu        sync.Mutex // held by Start, and by Stop to its end
	started   bool
	stopped   bool
	listener  net.Listener
	server    *http.Server
	newcomers httpserve.Newcomers
	served    chan struct{} // closed when the listener's goroutine has ended
}

// New returns a server that is not started.
func New(o Options) (*Server, error) {
	if o.Store == nil {
		return nil, errors.New("subscriber: Store is required")
	}
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	o.Config.setDefaults()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	s := &Server{o: o, source: NewSource(o.Store)}
	var err error
	s.streams, err = NewStreams(StreamOptions{
		Source: s.source, Config: o.Config, Metrics: "runcast_subscriber_", Registerer: o.Registry, Logger: o.Logger,
	})
	if err != nil {
		return nil, err
	}
	s.handler = s.routes()
	return s, nil
}

// Handler serves all routes. Streams live between Start and Stop.
func (s *Server) Handler() http.Handler { return s.handler }

// HTTP2 is what a server of the Handler needs to end HTTP/2 connections whose
// socket takes nothing.
func (s *Server) HTTP2() *http.HTTP2Config { return httpserve.HTTP2(s.o.Config.WriteDeadline) }

// Hub is for measurements and tests.
func (s *Server) Hub() *hub.Hub { return s.streams.hub }

// Start subscribes and listens, and returns. An empty Config.Addr listens
// nowhere: then somebody else serves the Handler.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started {
		return nil
	}
	var secure *tls.Config
	if addr := s.o.Config.Addr; addr != "" {
		var err error
		if secure, err = s.o.Config.LoadTLS(s.o.Logger); err != nil {
			return err
		}
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", addr)
		if err != nil {
			return fmt.Errorf("cannot listen on %s; give another address with --addr (RUNCAST_SUBSCRIBER_ADDR): %w", addr, err)
		}
		s.listener = l
		at := l.Addr()
		s.addr.Store(&at)
	}
	s.started = true
	s.source.Feed(s.streams.hub)
	s.streams.Start()
	if s.listener == nil {
		return nil
	}
	s.server = &http.Server{
		Handler:           s.handler,
		ConnState:         s.newcomers.Watch,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		TLSConfig:         secure,
		HTTP2:             s.HTTP2(),
		ErrorLog:          slog.NewLogLogger(s.o.Logger.Handler(), slog.LevelWarn),
	}
	s.served = make(chan struct{})
	go func() {
		defer close(s.served)
		if err := httpserve.Accept(s.server, s.listener); !errors.Is(err, http.ErrServerClosed) {
			s.o.Logger.Error("the listener failed", "error", err)
		}
	}()
	return nil
}

// Addr returns the address that Start listens on, or "". It does not wait for
// a Stop that is under way.
func (s *Server) Addr() string {
	if addr := s.addr.Load(); addr != nil {
		return (*addr).String()
	}
	return ""
}

// Drain tells every viewer to reconnect elsewhere, each after a time of its
// own, and waits until they have gone or ctx ends. From now on /readyz says
// no, and new streams are refused.
func (s *Server) Drain(ctx context.Context) error {
	s.draining.Store(true)
	s.streams.hub.Drain(ctx)
	return nil
}

// Stop drains, then stops everything and waits for it. When ctx ends, what
// is still connected is cut off; Stop returns once all is over.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started || s.stopped {
		return nil
	}
	s.stopped = true
	if s.server != nil {
		// The socket of an HTTP/2 connection is not the hub's to close, and
		// where it takes nothing its streams would wait for it.
		cut := context.AfterFunc(ctx, func() { _ = s.server.Close() })
		defer cut()
	}
	err := s.Drain(ctx)
	if s.server != nil {
		if e := s.newcomers.Shutdown(ctx, s.server); e != nil {
			err = errors.Join(err, s.server.Close())
		}
		<-s.served
	}
	s.streams.hub.Stop()
	return errors.Join(err, s.source.Close())
}
