// Package httpserve runs one HTTP server from its listener to its orderly
// end.
package httpserve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Listen takes the address. An error names flag, whose value it is.
func Listen(ctx context.Context, flag, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s; give another address with %s: %w", addr, flag, err)
	}
	return l, nil
}

// Options of one server.
type Options struct {
	Handler http.Handler
	Logger  *slog.Logger
	// WriteTimeout bounds an answer; 0 is none, for servers of streams, which
	// bound their writes themselves.
	WriteTimeout time.Duration
	// TLS has the server speak TLS, and HTTP/2 to those who ask for it; nil is
	// plain HTTP/1.1. See [TLS].
	TLS *tls.Config
	// HTTP2 bounds HTTP/2 connections; see [HTTP2]. Nil: as net/http does.
	HTTP2 *http.HTTP2Config
	// Grace bounds how long Serve waits for answers under way; 0 is 5 s.
	Grace time.Duration
	// Drain, if set, is called when Serve is to end, before it takes no more
	// connections: it ends what Shutdown does not wait for, and is what
	// readiness and long streams hear first.
	Drain func(context.Context) error
}

// Serve answers on l until ctx ends, then drains within the grace. It returns
// nil after an orderly end; a cut at the end of the grace is one, and is
// logged. It owns l.
func Serve(ctx context.Context, l net.Listener, o Options) error {
	if o.Grace == 0 {
		o.Grace = 5 * time.Second
	}
	var newcomers Newcomers
	server := &http.Server{
		Handler:   o.Handler,
		ConnState: newcomers.Watch,
		// What a client has to say is short; a slow one holds nothing up.
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      o.WriteTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		TLSConfig:         o.TLS,
		HTTP2:             o.HTTP2,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
	}
	if o.WriteTimeout == 0 {
		// A stream's request is read at once; its connection lives on.
		server.ReadTimeout = 0
	}
	served := make(chan error, 1)
	go func() { served <- Accept(server, l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.Grace)
	defer cancel()
	var err error
	if o.Drain != nil {
		// What is drained may wait for a connection that only the server can
		// close: the socket of an HTTP/2 client that takes nothing.
		cut := context.AfterFunc(stopCtx, func() { _ = server.Close() })
		err = o.Drain(stopCtx)
		cut()
	}
	switch e := newcomers.Shutdown(stopCtx, server); {
	case e == nil:
	case stopCtx.Err() != nil:
		o.Logger.Warn("connections were cut off at the end of the grace", "addr", l.Addr(), "grace", o.Grace)
		_ = server.Close() // the listener is closed already, which is all that could fail
	default:
		err = errors.Join(err, fmt.Errorf("shut down %s: %w", l.Addr(), e), server.Close())
	}
	if e := <-served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// Accept is the server's Serve, or its ServeTLS where it has a TLSConfig.
func Accept(s *http.Server, l net.Listener) error {
	if s.TLSConfig != nil {
		return s.ServeTLS(l, "", "")
	}
	return s.Serve(l)
}
