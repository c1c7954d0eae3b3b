package settings

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"net/url"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/lmittmann/tint"
)

// Log are the settings of a program's log, which goes to its standard error.
type Log struct {
	Level  slog.Level `name:"log-level" from:"RUNCAST_LOG_LEVEL" default:"INFO" help:"Least level that is logged: DEBUG, INFO, WARN or ERROR."`
	Format string     `name:"log-format" from:"RUNCAST_LOG_FORMAT" default:"text" enum:"text,json" help:"text for people, json for machines."`
}

// Logger returns a logger that writes to w.
func (l Log) Logger(w io.Writer) *slog.Logger {
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l.Level}))
	}
	return slog.New(tint.NewTextHandler(w, &tint.Options{Level: l.Level, NoColor: true}))
}

// Redis says where the store is.
type Redis struct {
	URL    string `name:"redis-url" from:"REDIS_URL" default:"redis://127.0.0.1:6379" help:"Redis: redis:// or rediss:// for TLS, with ?addr= for a cluster, redis+sentinel:// for Sentinel."`
	Prefix string `name:"key-prefix" from:"RUNCAST_KEY_PREFIX" help:"In front of every key and channel: sets environments and Temporal namespaces apart."`
}

// Origins are web origins, such as https://app.example.
type Origins []string

// Validate reports an entry that is no origin.
func (o Origins) Validate() error {
	for _, origin := range o {
		if origin == "*" {
			if len(o) > 1 {
				return fmt.Errorf("--allowed-origins (RUNCAST_ALLOWED_ORIGINS): * allows every origin already; give it alone, or leave it out")
			}
			continue
		}
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Scheme+"://"+u.Host != origin {
			return fmt.Errorf("--allowed-origins (RUNCAST_ALLOWED_ORIGINS): %q is not an origin such as https://app.example, without a path", origin)
		}
	}
	return nil
}

// Proxies are networks of proxies, such as 10.0.0.0/8; an address is a network
// of its own.
type Proxies []netip.Prefix

// Decode reads a list with commas.
func (p *Proxies) Decode(ctx *kong.DecodeContext) error {
	var text string
	if err := ctx.Scan.PopValueInto("networks", &text); err != nil {
		return err
	}
	*p = nil
	for _, entry := range strings.Split(text, ",") {
		network, err := netip.ParsePrefix(entry)
		if addr, e := netip.ParseAddr(entry); e == nil {
			network, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			return fmt.Errorf("%q is not a network such as 10.0.0.0/8", entry)
		}
		*p = append(*p, network.Masked())
	}
	return nil
}

// TLS are the files of a server's certificate. The zero value is plain HTTP.
type TLS struct {
	Cert string `name:"tls-cert" from:"RUNCAST_TLS_CERT" help:"PEM file with the certificate to answer with, its chain behind it. Empty: plain HTTP."`
	Key  string `name:"tls-key" from:"RUNCAST_TLS_KEY" help:"PEM file with the private key of --tls-cert."`
}

// Validate reports one file without the other.
func (t TLS) Validate() error {
	if (t.Cert == "") != (t.Key == "") {
		return fmt.Errorf("--tls-cert (RUNCAST_TLS_CERT) and --tls-key (RUNCAST_TLS_KEY) belong together: give both files, or neither for plain HTTP")
	}
	return nil
}

// BaseURL reports text that is not an absolute http URL; name is the flag's
// and variable's, for the message. Empty text is fine.
func BaseURL(name, text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%s: %q is not a URL such as https://runcast.example", name, text)
	}
	return nil
}

// Payloads says how what Temporal keeps of runs is encrypted.
type Payloads struct {
	Keys string `name:"payload-keys" from:"RUNCAST_PAYLOAD_KEYS" placeholder:"KEY,…" help:"Encrypts what Temporal keeps of runs: base64 of 32 bytes each (openssl rand -base64 32), the newest first. The same for API and worker. Empty: not encrypted."`
}
