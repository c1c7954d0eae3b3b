package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"

	"go.temporal.io/sdk/client"

	"github.com/runcast/runcast/bench/internal/arm"
	"github.com/runcast/runcast/bench/internal/signing"
	"github.com/runcast/runcast/pkg/strategy"
)

// receive has a receiver answer what the worker says to the listener.
func receive(l net.Listener, mux *http.ServeMux) (*strategy.Receiver, error) {
	const at = "/callback"
	keys, err := signing.Keys()
	if err != nil {
		return nil, err
	}
	receiver, err := strategy.NewReceiver(keys, "http://"+l.Addr().String()+at)
	if err != nil {
		return nil, err
	}
	mux.Handle(at, receiver)
	return receiver, nil
}

// openSubscribing makes a strategy that is told by the worker, and serves what
// the worker calls.
func openSubscribing(c *arm.Config, temporal client.Client) (strategy.Strategy, func(), error) {
	none := func() {}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, none, fmt.Errorf("listen for what the worker says: %w", err)
	}
	mux := http.NewServeMux()
	receiver, err := receive(l, mux)
	if err != nil {
		return nil, none, errors.Join(err, l.Close())
	}
	stop := serve(l, mux)
	if c.Strategy == strategy.Push {
		return strategy.NewPush(temporal, receiver, strategy.SubscribeOptions{}), stop, nil
	}
	return strategy.NewSignal(temporal, receiver, strategy.SubscribeOptions{}), stop, nil
}
