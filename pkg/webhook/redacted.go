package webhook

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
)

const (
	// hidden is in the place of what is not shown.
	hidden = "…"
	// hiddenUser is in the place of a user, which must be ASCII.
	hiddenUser = "xxxxx"
	// unreadable is in the place of a URL of which nobody could tell what in it
	// is secret.
	unreadable = "(a URL that cannot be read)"
	// leastSecret is how long a value is, in bytes, that is looked for in what
	// strangers say. A shorter one is no token, and may be part of any word.
	leastSecret = 8
)

// Redacted returns a URL as lists, logs and errors show it, such as
// https://xxxxx@receiver.example/hook?run=…&token=…: without its user, password
// and fragment, and without the values of its query, which may be tokens. The
// path stays. Text that is no absolute URL is not shown at all. What is
// redacted already stays as it is.
func Redacted(rawURL string) string {
	rest, _, _ := strings.Cut(rawURL, "#")
	rest, query, asks := strings.Cut(rest, "?")
	scheme, rest, absolute := strings.Cut(rest, "://")
	place, path := rest, ""
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		place, path = rest[:i], rest[i:]
	}
	// By hand, so that what is shown is what was given, letter for letter.
	user := ""
	if i := strings.LastIndexByte(place, '@'); i >= 0 {
		user, place = hiddenUser+"@", place[i+1:]
	}
	shown := scheme + "://" + user + place + path
	if asks {
		shown += "?" + redactedQuery(query)
	}
	if u, err := url.Parse(shown); !absolute || err != nil || u.Host == "" || !strings.EqualFold(u.Scheme, scheme) {
		return unreadable
	}
	return shown
}

// redactedQuery returns a query without its values. A name without a value may
// be one itself.
func redactedQuery(query string) string {
	if query == "" {
		return ""
	}
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		if name, _, ok := strings.Cut(pair, "="); ok {
			pairs[i] = name + "=" + hidden
		} else {
			pairs[i] = hidden
		}
	}
	return strings.Join(pairs, "&")
}

// withoutValues returns a stranger's text without the values of the query of
// the URL that it was asked by: some repeat what they were asked for.
func withoutValues(text string, u *url.URL) string {
	if u.RawQuery == "" {
		return text
	}
	secrets := []string{}
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			value = name
		}
		plain, err := url.QueryUnescape(value)
		if err != nil {
			plain = value
		}
		for _, secret := range []string{value, plain, url.QueryEscape(plain)} {
			if len(secret) >= leastSecret {
				secrets = append(secrets, secret)
			}
		}
	}
	// The longest first: one may begin with another.
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	oldNew := []string{"?" + u.RawQuery, "?" + redactedQuery(u.RawQuery)}
	for _, secret := range secrets {
		oldNew = append(oldNew, secret, hidden)
	}
	return strings.NewReplacer(oldNew...).Replace(text)
}
