package subscriberservice

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/subscriber"
)

// With a certificate the program speaks TLS, and HTTP/2 to those who ask.
func TestServeTLS(t *testing.T) {
	files := testenv.NewCertificate(t, t.TempDir())
	ctx, stop := context.WithCancel(t.Context())
	addr := make(chan string, 1)
	ended := make(chan error, 1)
	c := Config{Subscriber: subscriber.Config{
		Addr: "127.0.0.1:0", TLS: settings.TLS{Cert: files.CertFile, Key: files.KeyFile},
		Redis: settings.Redis{URL: testenv.Redis(t).URL(), Prefix: testenv.Prefix(t)},
	}}
	go func() {
		ended <- Serve(ctx, c, slog.New(slog.DiscardHandler), Hooks{Started: func(a string) { addr <- a }})
	}()
	base := "https://" + <-addr
	for _, proto := range []int{1, 2} {
		transport := &http.Transport{TLSClientConfig: files.Client.Clone(), ForceAttemptHTTP2: proto == 2}
		if proto == 1 {
			transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
		}
		defer transport.CloseIdleConnections()
		res, err := (&http.Client{Transport: transport}).Get(base + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != 200 || res.ProtoMajor != proto {
			t.Errorf("%s over %s, want HTTP/%d", res.Status, res.Proto, proto)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("it did not stop in order: %v", err)
	}
}

func TestBadTLSSettings(t *testing.T) {
	good, other := testenv.NewCertificate(t, t.TempDir()), testenv.NewCertificate(t, t.TempDir())
	for _, tt := range []struct{ name, cert, key, says string }{
		{"no key", good.CertFile, "", "belong together"},
		{"no certificate", "", good.KeyFile, "belong together"},
		{"no such file", "none.pem", good.KeyFile, "none.pem"},
		{"of another certificate", good.CertFile, other.KeyFile, "match"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// Settings that are taken run until the context ends.
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			var out bytes.Buffer
			err := Run(ctx, nil, settings.Env{
				"RUNCAST_SUBSCRIBER_ADDR": "127.0.0.1:0", "RUNCAST_TLS_CERT": tt.cert, "RUNCAST_TLS_KEY": tt.key,
			}, &out, &out)
			if err == nil {
				t.Fatal("it ran")
			}
			for _, want := range []string{"--tls-cert", "RUNCAST_TLS_CERT", "--tls-key", "RUNCAST_TLS_KEY", tt.says} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %s", err, want)
				}
			}
		})
	}
}
