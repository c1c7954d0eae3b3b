// Package page serves the browser page of the subscriber: static files, built
// into the binary, that follow runs over the subscriber's own public routes.
//
// It knows no workflow, no Redis and no Temporal; what the page shows, it
// reads like any other viewer.
package page

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/runcast/runcast/pkg/problem"
)

//go:embed static
var static embed.FS

// Config is what the page has to be told.
type Config struct {
	// APIURL is where the API service is, as a browser reaches it, such as
	// "http://127.0.0.1:8081". Empty: the page offers no form to start a run.
	// What is not an absolute http or https URL counts as empty.
	APIURL string
}

// asset is one file in memory.
type asset struct {
	body        []byte
	contentType string
	etag        string
}

// Handler serves the page at "/", the files it needs beside it, and its
// configuration at "/config.json". Everything else is 404, and every method
// but GET and HEAD 405. It keeps no state and is safe for concurrent use.
func Handler(config Config) http.Handler {
	api := apiOrigin(config.APIURL)
	assets := load()
	assets["/config.json"] = newAsset(configJSON(api.base), "application/json")
	policy := contentSecurityPolicy(api.origin)

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, ok := assets[r.URL.Path]
		if !ok {
			problem.NotFound(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			problem.MethodNotAllowed(w, r, http.MethodGet, http.MethodHead)
			return
		}
		h := w.Header()
		h.Set("Content-Type", a.contentType)
		// The names carry no version, so a browser asks each time whether its
		// copy is current; the answer is a 304 until the binary changes.
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", a.etag)
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		if matches(r.Header.Get("If-None-Match"), a.etag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Length", strconv.Itoa(len(a.body)))
		if r.Method == http.MethodHead {
			return
		}
		w.Write(a.body) //nolint:errcheck // the viewer has left; there is nobody to tell
	})
}

// load reads the embedded files, by the path under which they are served.
func load() map[string]asset {
	assets := make(map[string]asset)
	err := fs.WalkDir(static, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := static.ReadFile(name)
		if err != nil {
			return err
		}
		contentType, ok := contentTypes[path.Ext(name)]
		if !ok {
			return fmt.Errorf("no content type for %s", name)
		}
		assets[strings.TrimPrefix(name, "static")] = newAsset(body, contentType)
		return nil
	})
	if err != nil {
		panic("page: " + err.Error()) // the binary itself is broken
	}
	assets["/"] = assets["/index.html"]
	assets["/favicon.ico"] = assets["/favicon.svg"]
	return assets
}

// contentTypes spells them out: package mime asks the machine it runs on.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

func newAsset(body []byte, contentType string) asset {
	sum := sha256.Sum256(body)
	return asset{body: body, contentType: contentType, etag: `"` + hex.EncodeToString(sum[:16]) + `"`}
}

// configJSON is the page's configuration as it reads it.
func configJSON(apiURL string) []byte {
	body, err := json.Marshal(struct {
		APIURL string `json:"api_url"`
	}{apiURL})
	if err != nil {
		panic("page: " + err.Error()) // a struct of one string always encodes
	}
	return append(body, '\n')
}

// contentSecurityPolicy lets the page load its own files, and speak to its
// own server and the API. Nothing inline runs, and nobody may frame it.
func contentSecurityPolicy(apiOrigin string) string {
	connect := "'self'"
	if apiOrigin != "" {
		connect += " " + apiOrigin
	}
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src " + connect +
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

type apiAddress struct{ base, origin string }

// apiOrigin takes the configured URL apart. The origin goes into a header, so
// it is built from the parsed parts and never from the text.
func apiOrigin(text string) apiAddress {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.ContainsAny(u.Host, " ;,'\"") {
		return apiAddress{}
	}
	origin := u.Scheme + "://" + u.Host
	return apiAddress{base: origin + strings.TrimSuffix(u.EscapedPath(), "/"), origin: origin}
}

// matches reports whether an If-None-Match header names the tag.
func matches(header, etag string) bool {
	for tag := range strings.SplitSeq(header, ",") {
		tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
		if tag == etag || tag == "*" {
			return true
		}
	}
	return false
}
