package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/runcast/runcast/bench/internal/arm"
	"github.com/runcast/runcast/bench/internal/signing"
	"github.com/runcast/runcast/pkg/strategy"
)

// openSubscribing makes a strategy that is told by the worker, and serves what
// the worker calls.
func openSubscribing(c *arm.Config, temporal client.Client) (strategy.Strategy, func(), error) {
	none := func() {}
	keys, err := signing.Keys()
	if err != nil {
		return nil, none, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, none, fmt.Errorf("listen for what the worker says: %w", err)
	}
	receiver, err := strategy.NewReceiver(keys, "http://"+l.Addr().String()+"/callback")
	if err != nil {
		return nil, none, errors.Join(err, l.Close())
	}
	s := &http.Server{Handler: receiver, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	stop := func() {
		_ = s.Close() // the measurement is over
		<-served
	}
	if c.Strategy == strategy.Push {
		return strategy.NewPush(temporal, receiver, strategy.SubscribeOptions{}), stop, nil
	}
	return strategy.NewSignal(temporal, receiver, strategy.SubscribeOptions{}), stop, nil
}
