package webhook

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Keys sign and verify. What is sent carries a signature by each, and one that
// verifies is enough: a new secret is put in front everywhere, and later the
// old one is taken away. The zero value has none.
type Keys struct {
	keys []*standardwebhooks.Webhook
}

// secretPrefix is how Standard Webhooks marks a secret.
const secretPrefix = "whsec_"

// Bounds of a secret, in bytes, as Standard Webhooks recommends.
const (
	minSecret = 24
	maxSecret = 64
)

// ParseKeys reads secrets, the newest first: each is base64 of 24 to 64 bytes,
// and may begin with "whsec_". An error does not show them.
func ParseKeys(secrets ...string) (Keys, error) {
	var k Keys
	for i, secret := range secrets {
		raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(strings.TrimSpace(secret), secretPrefix))
		if err != nil {
			return Keys{}, fmt.Errorf("secret %d is no base64; make one with: openssl rand -base64 32", i+1)
		}
		if len(raw) < minSecret || len(raw) > maxSecret {
			return Keys{}, fmt.Errorf("secret %d has %d bytes, and %d to %d are needed; make one with: openssl rand -base64 32", i+1, len(raw), minSecret, maxSecret)
		}
		key, err := standardwebhooks.NewWebhookRaw(raw)
		if err != nil {
			return Keys{}, fmt.Errorf("secret %d: %w", i+1, err)
		}
		k.keys = append(k.keys, key)
	}
	return k, nil
}

// Empty reports whether there is no secret.
func (k Keys) Empty() bool { return len(k.keys) == 0 }

// Sign sets the headers that name and sign a message which is sent at that
// time.
func (k Keys) Sign(h http.Header, id string, at time.Time, body []byte) error {
	if k.Empty() {
		return errors.New("there is no secret to sign with")
	}
	signatures := make([]string, len(k.keys))
	for i, key := range k.keys {
		var err error
		if signatures[i], err = key.Sign(id, at, body); err != nil {
			return fmt.Errorf("sign message %s: %w", id, err)
		}
	}
	h.Set(standardwebhooks.HeaderWebhookID, id)
	h.Set(standardwebhooks.HeaderWebhookTimestamp, fmt.Sprint(at.Unix()))
	h.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	return nil
}

// Verify checks a message that came, and returns its ID. One that was signed
// more than five minutes ago, or by the sender's clock in as distant a future,
// is refused, so that a message which somebody has kept is worth nothing.
func (k Keys) Verify(h http.Header, body []byte) (id string, err error) {
	if k.Empty() {
		return "", errors.New("there is no secret to verify with")
	}
	for _, key := range k.keys {
		if err = key.Verify(body, h); err == nil {
			return h.Get(standardwebhooks.HeaderWebhookID), nil
		}
	}
	return "", fmt.Errorf("the webhook's signature: %w", cause(err))
}

// cause returns what the library's error wraps, which says all.
func cause(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}
