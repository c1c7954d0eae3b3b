package main

import (
	"log/slog"

	"github.com/redis/go-redis/v9"
	"go.temporal.io/sdk/worker"

	"github.com/runcast/runcast/bench/internal/signing"
	"github.com/runcast/runcast/pkg/delivery"
	"github.com/runcast/runcast/pkg/webhook"
)

// deliver has the worker tell who subscribes to its runs, on this machine's
// loopback only.
func deliver(w worker.Worker, letters string, logger *slog.Logger) (stop func(), err error) {
	keys, err := signing.Keys()
	if err != nil {
		return nil, err
	}
	allow, err := webhook.ParseAllow("127.0.0.1")
	if err != nil {
		return nil, err
	}
	sender, err := webhook.NewSender(webhook.Options{Keys: keys, Allow: allow})
	if err != nil {
		return nil, err
	}
	o := delivery.Options{Sender: sender, Logger: logger}
	stop = sender.Close
	if letters != "" {
		c := redis.NewClient(&redis.Options{Addr: letters})
		o.Letters = delivery.NewLetters(c, delivery.LetterOptions{})
		stop = func() {
			sender.Close()
			_ = c.Close() // the measurement is over
		}
	}
	delivery.New(o).Register(w)
	return stop, nil
}
