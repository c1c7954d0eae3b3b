package workerservice

import (
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/pkg/delivery"
	"github.com/runcast/runcast/pkg/webhook"
)

func pushKeys(p settings.Push) (webhook.Keys, error) {
	k, err := webhook.ParseKeys(p.Secrets...)
	if err != nil {
		return k, fmt.Errorf("--push-secrets (RUNCAST_PUSH_SECRETS): %w", err)
	}
	return k, nil
}

func pushAllow(p settings.Push) (webhook.Allow, error) {
	a, err := webhook.ParseAllow(p.Allow...)
	if err != nil {
		return a, fmt.Errorf("--push-allow (RUNCAST_PUSH_ALLOW): %w", err)
	}
	return a, nil
}

// deliverer tells the subscribers of runs. Without a secret it tells nobody:
// what was to be pushed becomes a dead letter, which says so.
func deliverer(c Config, redis redis.UniversalClient, logger *slog.Logger) (d *delivery.Deliverer, stop func(), err error) {
	o := delivery.Options{Letters: delivery.NewLetters(redis, delivery.LetterOptions{Prefix: c.Redis.Prefix}), Logger: logger}
	stop = func() {}
	keys, err := pushKeys(c.Push)
	if err != nil {
		return nil, nil, err
	}
	allow, err := pushAllow(c.Push)
	if err != nil {
		return nil, nil, err
	}
	if !keys.Empty() {
		if o.Sender, err = webhook.NewSender(webhook.Options{Keys: keys, Allow: allow}); err != nil {
			return nil, nil, err
		}
		stop = o.Sender.Close
	}
	return delivery.New(o), stop, nil
}
