package webhook

import (
	"crypto/hkdf"
	"crypto/sha256"
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
//
// Those of a deployment sign nothing themselves: each receiver has keys of its
// own, see [Keys.For].
type Keys struct {
	secrets [][]byte
	keys    []*standardwebhooks.Webhook
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
		if err := k.add(raw); err != nil {
			return Keys{}, fmt.Errorf("secret %d: %w", i+1, err)
		}
	}
	return k, nil
}

func (k *Keys) add(secret []byte) error {
	key, err := standardwebhooks.NewWebhookRaw(secret)
	if err != nil {
		return err
	}
	k.secrets, k.keys = append(k.secrets, secret), append(k.keys, key)
	return nil
}

// Receiver returns what tells receivers apart, such as
// "https://receiver.example:443/runcast": a URL's scheme, host in small
// letters, port, which is always there, and path. A query may differ from run
// to run. The error says why it is no URL of a receiver.
func Receiver(rawURL string) (string, error) {
	u, err := parseURL(rawURL)
	if err != nil {
		return "", err
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	return u.Scheme + "://" + strings.ToLower(hostPort(u)) + path, nil
}

// derivation sets the keys of receivers apart from whatever else may be made
// of the same secrets one day.
const derivation = "runcast webhook receiver v1 "

// For returns the keys of one receiver, in the same order: HKDF-SHA-256 (RFC
// 5869) of each secret, with the URL as its information. Who has them can sign
// for this receiver and for no other; see [Receiver]. The error says why it is
// no URL of a receiver.
func (k Keys) For(rawURL string) (Keys, error) {
	receiver, err := Receiver(rawURL)
	if err != nil {
		return Keys{}, err
	}
	info := derivation + receiver
	var of Keys
	for _, secret := range k.secrets {
		key, err := hkdf.Key(sha256.New, secret, nil, info, sha256.Size)
		if err == nil {
			err = of.add(key)
		}
		if err != nil {
			return Keys{}, fmt.Errorf("derive a receiver's key: %w", err)
		}
	}
	return of, nil
}

// Secrets returns the secrets as Standard Webhooks writes them: those of a
// receiver are for it to verify with. Keep them out of logs.
func (k Keys) Secrets() []string {
	texts := make([]string, len(k.secrets))
	for i, secret := range k.secrets {
		texts[i] = secretPrefix + base64.StdEncoding.EncodeToString(secret)
	}
	return texts
}

// Empty reports whether there is no secret.
func (k Keys) Empty() bool { return len(k.keys) == 0 }

// CheckID reports an ID that no message has: it is of letters, digits, "_" and
// "-", 1 to [MaxID] of them. What is signed is "ID.time.body", so that of an ID
// with a point nobody could tell where it ends.
func CheckID(id string) error {
	strange := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
	}
	if id == "" || len(id) > MaxID || strings.ContainsFunc(id, strange) {
		return fmt.Errorf(`%.40q is no ID of a message: it has 1 to %d letters, digits, "_" and "-"`, id, MaxID)
	}
	return nil
}

// Sign sets the headers that name and sign a message which is sent at that
// time.
func (k Keys) Sign(h http.Header, id string, at time.Time, body []byte) error {
	if k.Empty() {
		return errors.New("there is no secret to sign with")
	}
	if err := CheckID(id); err != nil {
		return err
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
	id = h.Get(standardwebhooks.HeaderWebhookID)
	if err := CheckID(id); id != "" && err != nil {
		return "", err
	}
	for _, key := range k.keys {
		if err = key.Verify(body, h); err == nil {
			return id, nil
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
