package httpserve

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// maxStreams is how many requests one HTTP/2 connection has open at a time:
// each viewer is one. A browser needs a few; a proxy that needs more opens
// another connection.
const maxStreams = 250

// HTTP2 returns the limits of HTTP/2 connections. Deadline is how long the
// socket may take nothing; it is a little longer here than for a stream, so
// that each stream ends for its own reason first.
func HTTP2(deadline time.Duration) *http.HTTP2Config {
	return &http.HTTP2Config{MaxConcurrentStreams: maxStreams, WriteByteTimeout: deadline + deadline/2}
}

// certificateEvery is how often, at most, the files of a certificate are
// looked at again.
const certificateEvery = 10 * time.Second

// TLS returns what a server needs to answer with the certificate in two PEM
// files, its chain behind it in the first. New connections get the renewed
// one within ten seconds of a change on disk; where it cannot be read, or the
// files do not fit each other, the old one stays, and that is logged.
func TLS(certFile, keyFile string, logger *slog.Logger) (*tls.Config, error) {
	c := &certificate{cert: certFile, key: keyFile, every: certificateEvery, logger: logger}
	if err := c.load(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}, nil
}

// certificate is a pair of files and what they held.
type certificate struct {
	cert, key string
	every     time.Duration
	logger    *slog.Logger

	held atomic.Pointer[tls.Certificate]
	// mu is taken by the handshake that looks at the files; others do not
	// wait for it, they use what is held.
	mu     sync.Mutex
	looked time.Time
	stamp  [2]stamp
}

// stamp says which version of a file was read.
type stamp struct {
	changed time.Time
	size    int64
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.mu.TryLock() {
		defer c.mu.Unlock()
		if time.Since(c.looked) >= c.every {
			if err := c.load(); err != nil {
				c.logger.Warn("the certificate cannot be read again; the old one stays", "error", err)
			}
		}
	}
	return c.held.Load(), nil
}

// load reads the files unless they are those that are held.
func (c *certificate) load() error {
	c.looked = time.Now()
	var stamps [2]stamp
	for i, name := range []string{c.cert, c.key} {
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		stamps[i] = stamp{info.ModTime(), info.Size()}
	}
	if c.held.Load() != nil && stamps == c.stamp {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", c.cert, c.key, err)
	}
	c.held.Store(&pair)
	c.stamp = stamps
	return nil
}
