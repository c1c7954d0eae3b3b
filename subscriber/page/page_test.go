package page

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, h http.Handler, method, path string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, res *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestHandlerServesThePage(t *testing.T) {
	h := Handler(Config{})
	for path, contentType := range map[string]string{
		"/":            "text/html; charset=utf-8",
		"/app.js":      "text/javascript; charset=utf-8",
		"/runcast.js":  "text/javascript; charset=utf-8",
		"/style.css":   "text/css; charset=utf-8",
		"/favicon.svg": "image/svg+xml",
		"/favicon.ico": "image/svg+xml",
		"/config.json": "application/json",
	} {
		res := get(t, h, http.MethodGet, path)
		if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != contentType {
			t.Errorf("GET %s: %d %q, want 200 %q", path, res.StatusCode, res.Header.Get("Content-Type"), contentType)
		}
		if body(t, res) == "" {
			t.Errorf("GET %s: empty body", path)
		}
		if got := res.Header.Get("X-Content-Type-Options"); got != "nosniff" {
			t.Errorf("GET %s: X-Content-Type-Options %q", path, got)
		}
	}
}

// Every file that the page names must be there, and nothing may run inline:
// the policy would stop it, silently for the person who looks at the page.
func TestPageRefersOnlyToWhatIsServed(t *testing.T) {
	h := Handler(Config{})
	html := body(t, get(t, h, http.MethodGet, "/"))
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"#][^"]*)"`).FindAllStringSubmatch(html, -1) {
		if res := get(t, h, http.MethodGet, m[1]); res.StatusCode != http.StatusOK {
			t.Errorf("the page refers to %s: %d", m[1], res.StatusCode)
		}
	}
	if m := regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|<script(?:\s[^>]*)?>[^<]`).FindString(html); m != "" {
		t.Errorf("the page has inline code or style: %q", m)
	}
	imports := regexp.MustCompile(`from "\./([a-z]+\.js)"`)
	for path := range load() {
		if !strings.HasSuffix(path, ".js") {
			continue
		}
		script := body(t, get(t, h, http.MethodGet, path))
		for _, m := range imports.FindAllStringSubmatch(script, -1) {
			if res := get(t, h, http.MethodGet, "/"+m[1]); res.StatusCode != http.StatusOK {
				t.Errorf("%s imports %s: %d", path, m[1], res.StatusCode)
			}
		}
		// Text from outside reaches the page as text only.
		if m := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(`).FindString(script); m != "" {
			t.Errorf("%s uses %s", path, m)
		}
	}
}

func TestHandlerCaching(t *testing.T) {
	h := Handler(Config{})
	for path := range load() {
		first := get(t, h, http.MethodGet, path)
		etag := first.Header.Get("ETag")
		if etag == "" || first.Header.Get("Cache-Control") != "no-cache" {
			t.Errorf("GET %s: ETag %q, Cache-Control %q", path, etag, first.Header.Get("Cache-Control"))
		}
		for _, match := range []string{etag, "W/" + etag, `"other", ` + etag, "*"} {
			res := get(t, h, http.MethodGet, path, "If-None-Match", match)
			if res.StatusCode != http.StatusNotModified || body(t, res) != "" || res.Header.Get("ETag") != etag {
				t.Errorf("GET %s with If-None-Match %s: %d", path, match, res.StatusCode)
			}
		}
		if res := get(t, h, http.MethodGet, path, "If-None-Match", `"other"`); res.StatusCode != http.StatusOK {
			t.Errorf("GET %s with another tag: %d", path, res.StatusCode)
		}
	}
}

func TestHandlerRefuses(t *testing.T) {
	h := Handler(Config{})
	for _, path := range []string{"/static/app.js", "/nothing", "/../page.go", "/index", "/v1/workflows"} {
		res := get(t, h, http.MethodGet, path)
		if res.StatusCode != http.StatusNotFound || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("GET %s: %d %q, want 404 and a problem", path, res.StatusCode, res.Header.Get("Content-Type"))
		}
	}
	res := get(t, h, http.MethodPost, "/")
	if res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST /: %d, Allow %q", res.StatusCode, res.Header.Get("Allow"))
	}
	if res := get(t, h, http.MethodHead, "/"); res.StatusCode != http.StatusOK || res.ContentLength <= 0 || body(t, res) != "" {
		t.Errorf("HEAD /: %d, length %d", res.StatusCode, res.ContentLength)
	}
}

func TestConfigReachesThePageAndThePolicy(t *testing.T) {
	for _, tt := range []struct{ in, api, connect string }{
		{"", "", "connect-src 'self';"},
		{"http://127.0.0.1:8081", "http://127.0.0.1:8081", "connect-src 'self' http://127.0.0.1:8081;"},
		{"https://api.example/runcast/", "https://api.example/runcast", "connect-src 'self' https://api.example;"},
		{"127.0.0.1:8081", "", "connect-src 'self';"},
		{"javascript:alert(1)", "", "connect-src 'self';"},
		{"http://x;script-src *", "", "connect-src 'self';"},
		{"http://[::1]:8081", "http://[::1]:8081", "connect-src 'self' http://[::1]:8081;"},
	} {
		h := Handler(Config{APIURL: tt.in})
		res := get(t, h, http.MethodGet, "/config.json")
		var config struct {
			APIURL *string `json:"api_url"`
		}
		if err := json.Unmarshal([]byte(body(t, res)), &config); err != nil {
			t.Fatalf("%q: %v", tt.in, err)
		}
		if config.APIURL == nil || *config.APIURL != tt.api {
			t.Errorf("%q: api_url %v, want %q", tt.in, config.APIURL, tt.api)
		}
		policy := res.Header.Get("Content-Security-Policy")
		if !strings.Contains(policy, tt.connect) {
			t.Errorf("%q: policy %q lacks %q", tt.in, policy, tt.connect)
		}
		for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"} {
			if !strings.Contains(policy, part) {
				t.Errorf("%q: policy %q lacks %q", tt.in, policy, part)
			}
		}
		if strings.Contains(policy, "unsafe") {
			t.Errorf("%q: policy %q", tt.in, policy)
		}
	}
}
