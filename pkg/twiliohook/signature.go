package twiliohook

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/twilio/twilio-go/client"
)

// SignatureHeader carries Twilio's signature.
const SignatureHeader = "X-Twilio-Signature"

// Options of a [Verifier].
type Options struct {
	// AuthToken is the account's, with which Twilio signs. Required.
	AuthToken string
	// PublicURL is the base of the URLs that Twilio was given, without the
	// routes, such as https://runcast.example. "" takes it from the headers
	// of TrustedProxies.
	PublicURL string
	// TrustedProxies are the peers whose X-Forwarded-Proto and
	// X-Forwarded-Host are believed; they count only without a PublicURL.
	TrustedProxies []netip.Prefix
}

// Verifier checks signatures. Its methods may be called concurrently.
type Verifier struct {
	validator client.RequestValidator
	public    string
	proxies   []netip.Prefix
}

// NewVerifier returns a verifier. Without a way to know the URL that was
// signed it is an error: the request's own Host header says what its sender
// likes.
func NewVerifier(o Options) (*Verifier, error) {
	if o.AuthToken == "" {
		return nil, errors.New("twiliohook: the auth token is required")
	}
	if o.PublicURL == "" && len(o.TrustedProxies) == 0 {
		return nil, errors.New("twiliohook: a public URL or trusted proxies are required: Twilio signs the URL that it was given")
	}
	return &Verifier{
		validator: client.NewRequestValidator(o.AuthToken),
		public:    strings.TrimSuffix(o.PublicURL, "/"),
		proxies:   o.TrustedProxies,
	}, nil
}

// ErrNoURL means that the request does not say under which URL it was made,
// in a way that could be believed.
var ErrNoURL = errors.New("the request came from no trusted proxy, or without X-Forwarded-Proto and X-Forwarded-Host; set RUNCAST_PUBLIC_URL to the base of the URLs that Twilio was given")

// URL returns the URL that Twilio was given for the request. Its error is
// [ErrNoURL].
func (v *Verifier) URL(r *http.Request) (string, error) {
	base, err := v.Base(r)
	return base + r.URL.RequestURI(), err
}

// Base returns the part of [Verifier.URL] before the request's path, without
// a slash at its end. Its error is [ErrNoURL].
func (v *Verifier) Base(r *http.Request) (string, error) {
	if v.public != "" {
		return v.public, nil
	}
	if !v.trusted(r.RemoteAddr) {
		return "", ErrNoURL
	}
	proto, host := single(r.Header, "X-Forwarded-Proto"), single(r.Header, "X-Forwarded-Host")
	if proto != "http" && proto != "https" || host == "" || strings.ContainsAny(host, "/?#@\\ ") {
		return "", ErrNoURL
	}
	return proto + "://" + host, nil
}

// trusted reports whether the peer is one of the proxies.
func (v *Verifier) trusted(peer string) bool {
	p, err := netip.ParseAddrPort(peer)
	if err != nil {
		return false
	}
	addr := p.Addr().Unmap().WithZone("")
	return slices.ContainsFunc(v.proxies, func(n netip.Prefix) bool { return n.Contains(addr) })
}

// single returns the header's value, or "" where there is not exactly one:
// a proxy that adds to what the client sent would let the client choose.
func single(h http.Header, name string) string {
	values := h.Values(name)
	if len(values) != 1 || strings.Contains(values[0], ",") {
		return ""
	}
	return strings.TrimSpace(values[0])
}

// Signed reports whether Twilio made the request with this form: nil, or why
// not. [ErrNoURL] is a mistake in the settings, [ErrSignature] is not.
func (v *Verifier) Signed(r *http.Request, form url.Values) error {
	u, err := v.URL(r)
	if err != nil {
		return err
	}
	signatures := r.Header.Values(SignatureHeader)
	if len(signatures) != 1 || !v.validator.Validate(u, flatten(form), signatures[0]) {
		return ErrSignature
	}
	return nil
}

// ErrSignature means that the signature is missing, or not Twilio's for this
// URL, form and token.
var ErrSignature = errors.New("the signature is not Twilio's")

// flatten gives the form the shape that the validator takes, which knows one
// value a key and writes key and value behind each other. Twilio signs every
// distinct value of a key, in order, each behind the key.
func flatten(form url.Values) map[string]string {
	flat := make(map[string]string, len(form))
	for key, values := range form {
		if len(values) == 1 {
			flat[key] = values[0]
			continue
		}
		distinct := slices.Clone(values)
		slices.Sort(distinct)
		flat[key] = strings.Join(slices.Compact(distinct), key)
	}
	return flat
}
