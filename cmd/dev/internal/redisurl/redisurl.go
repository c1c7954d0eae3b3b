// Package redisurl writes the URL of a Redis so that people may see it.
package redisurl

import (
	"net/url"
	"strings"
)

// unread stands for a URL that cannot be read, and so may show anything.
const unread = "(REDIS_URL)"

// Redacted returns a URL without its passwords.
func Redacted(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return unread
	}
	if q := u.Query(); u.RawQuery != "" {
		for name := range q {
			if strings.Contains(name, "password") {
				q.Set(name, "xxxxx")
			}
		}
		u.RawQuery = q.Encode()
	}
	return u.Redacted()
}

// Address returns where the URL leads, without user and options.
func Address(text string) string {
	_, rest, ok := strings.Cut(text, "://")
	if !ok {
		return unread
	}
	if strings.HasPrefix(rest, "/") { // a socket
		path, _, _ := strings.Cut(rest, "?")
		return path
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	authority := rest[:end]
	return authority[strings.LastIndex(authority, "@")+1:]
}
