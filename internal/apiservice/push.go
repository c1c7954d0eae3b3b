package apiservice

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/internal/statsmetrics"
	"github.com/runcast/runcast/pkg/delivery"
	"github.com/runcast/runcast/pkg/httpapi"
	"github.com/runcast/runcast/pkg/strategy"
	"github.com/runcast/runcast/pkg/webhook"
)

// push is what the service needs to be told by runs, and to send again what
// could not be sent.
type push struct {
	letters deadLetters
	// check reports a URL that cannot be pushed to; nil: nothing is pushed.
	check func(url string) error
	// receiver takes what runs tell the watchers of this node; nil: there is
	// no secret.
	receiver *strategy.Receiver
}

// deadLetters are those of package delivery, with who sends them.
type deadLetters struct {
	*delivery.Letters
	sender *webhook.Sender // nil: there is no secret
}

func (d deadLetters) Replay(ctx context.Context, id string) error {
	if d.sender == nil {
		return &webhook.Error{Reason: "there is no secret to sign it with; set RUNCAST_PUSH_SECRETS", Final: true}
	}
	return d.Letters.Replay(ctx, d.sender, id)
}

// checkPush reports settings that cannot be.
func (c *Config) checkPush() error {
	_, err := webhook.ParseKeys(c.Push.Secrets...)
	if err != nil {
		err = fmt.Errorf("--push-secrets (RUNCAST_PUSH_SECRETS): %w", err)
	}
	_, err2 := webhook.ParseAllow(c.Push.Allow...)
	if err2 != nil {
		err2 = fmt.Errorf("--push-allow (RUNCAST_PUSH_ALLOW): %w", err2)
	}
	return errors.Join(err, err2)
}

// push puts it together. Without a secret dead letters can only be looked at.
func (c *Config) push(client redis.UniversalClient, addr net.Addr, registry *prometheus.Registry) (*push, error) {
	p := &push{letters: deadLetters{Letters: delivery.NewLetters(client, delivery.LetterOptions{Prefix: c.Redis.Prefix})}}
	keys, err := webhook.ParseKeys(c.Push.Secrets...)
	if err != nil {
		return nil, err
	}
	if keys.Empty() {
		return p, nil
	}
	allow, err := webhook.ParseAllow(c.Push.Allow...)
	if err != nil {
		return nil, err
	}
	p.check = allow.CheckURL
	if p.receiver, err = strategy.NewReceiver(keys, c.callbackURL(addr)); err != nil {
		return nil, err
	}
	registry.MustRegister(callbackMetrics(p.receiver))
	p.letters.sender, err = webhook.NewSender(webhook.Options{Keys: keys, Allow: allow})
	return p, err
}

func callbackMetrics(r *strategy.Receiver) prometheus.Collector {
	return statsmetrics.Labeled("runcast_callback", "strategy", r.Stats)
}

// callbackURL is where workers reach this node's receiver.
func (c *Config) callbackURL(addr net.Addr) string {
	base := strings.TrimSuffix(c.CallbackURL, "/")
	if base == "" {
		host := addr.String()
		if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
			host = net.JoinHostPort("127.0.0.1", fmt.Sprint(tcp.Port))
		}
		base = "http://" + host
	}
	return base + httpapi.CallbackPath
}

// callback is nil without a receiver, as an interface.
func (p *push) callback() http.Handler {
	if p.receiver == nil {
		return nil
	}
	return p.receiver
}

func (p *push) close() {
	if p.letters.sender != nil {
		p.letters.sender.Close()
	}
}
