package httpserve

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/runcast/runcast/internal/testenv"
)

// serial returns the number of the certificate that a new connection gets.
func serial(t *testing.T, c *certificate) string {
	t.Helper()
	held, err := c.get(nil)
	if err != nil {
		t.Fatal(err)
	}
	return held.Leaf.SerialNumber.String()
}

// A renewed certificate is used; one that is written half stays out.
func TestCertificateIsRenewed(t *testing.T) {
	dir := t.TempDir()
	files := testenv.NewCertificate(t, dir)
	var log bytes.Buffer
	// Zero: each connection looks at the files.
	c := &certificate{cert: files.CertFile, key: files.KeyFile, logger: slog.New(slog.NewTextHandler(&log, nil))}
	if err := c.load(); err != nil {
		t.Fatal(err)
	}
	first := serial(t, c)
	if again := serial(t, c); again != first {
		t.Errorf("the same files gave %s, then %s", first, again)
	}
	if err := os.WriteFile(files.CertFile, []byte("-----BEGIN"), 0o600); err != nil {
		t.Fatal(err)
	}
	if broken := serial(t, c); broken != first || !strings.Contains(log.String(), files.CertFile) {
		t.Errorf("a broken file gave %s, not %s; the log is %q", broken, first, &log)
	}
	testenv.NewCertificate(t, dir)
	if renewed := serial(t, c); renewed == first {
		t.Error("the renewed certificate is not used")
	}
	// Nobody waits for the one that looks.
	c.mu.Lock()
	defer c.mu.Unlock()
	serial(t, c)
}

func TestTLSNamesBadFiles(t *testing.T) {
	good, other := testenv.NewCertificate(t, t.TempDir()), testenv.NewCertificate(t, t.TempDir())
	for _, tt := range []struct{ name, cert, key, want string }{
		{"missing certificate", good.CertFile + ".no", good.KeyFile, good.CertFile + ".no"},
		{"missing key", good.CertFile, good.KeyFile + ".no", good.KeyFile + ".no"},
		{"key of another certificate", good.CertFile, other.KeyFile, "match"},
		{"exchanged", good.KeyFile, good.CertFile, good.KeyFile},
	} {
		if _, err := TLS(tt.cert, tt.key, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
