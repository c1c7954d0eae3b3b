package problem_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/runcast/runcast/pkg/problem"
	"github.com/runcast/runcast/pkg/progress"
)

func TestError(t *testing.T) {
	for _, tt := range []struct {
		name   string
		err    error
		status int
		detail string
	}{
		{"invalid", fmt.Errorf("%w: too long", progress.ErrInvalid), 400, "invalid input: too long"},
		{"bad position", fmt.Errorf("%w \"x\"", progress.ErrBadPosition), 400, `bad position "x"`},
		{"not found", progress.ErrNotFound, 404, "not found"},
		{"store away", fmt.Errorf("%w: dial tcp 10.0.0.1", progress.ErrUnavailable), 503, "The store cannot be reached now; try again."},
		{"a bug", errors.New("password=secret"), 500, "The server failed; its log says why."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rec := httptest.NewRecorder()
			problem.Error(rec, tt.err)
			var got struct {
				Status        int
				Title, Detail string
			}
			if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if rec.Code != tt.status || got.Status != tt.status || got.Detail != tt.detail || got.Title != http.StatusText(tt.status) {
				t.Errorf("got %d %+v, want %d %q", rec.Code, got, tt.status, tt.detail)
			}
			if ct := rec.Header().Get("Content-Type"); ct != "application/problem+json" {
				t.Errorf("content type %q", ct)
			}
			if tt.status == 503 && rec.Header().Get("Retry-After") == "" {
				t.Error("a 503 without Retry-After")
			}
		})
	}
}

func TestWriteKeepsStatusOverExtra(t *testing.T) {
	rec := httptest.NewRecorder()
	rec.Header().Set("Content-Length", "3")
	problem.Write(rec, problem.Problem{Status: 404, Extra: map[string]any{"status": 1, "known": []string{"a"}, "bad": "ok"}})
	var got map[string]any
	if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got["status"] != 404.0 || got["known"] == nil || rec.Header().Get("Content-Length") != "" {
		t.Errorf("got %v, %v", got, rec.Header())
	}
	rec = httptest.NewRecorder()
	problem.Write(rec, problem.Problem{Status: 418, Extra: map[string]any{"f": func() {}}})
	if rec.Code != 418 || !json.Valid(rec.Body.Bytes()) {
		t.Errorf("an Extra that is no JSON: %d %s", rec.Code, rec.Body)
	}
}

func TestMethodNotAllowed(t *testing.T) {
	rec := httptest.NewRecorder()
	problem.MethodNotAllowed(rec, httptest.NewRequest("PUT", "/x", nil), "GET", "HEAD")
	if rec.Code != 405 || rec.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("got %d, Allow %q", rec.Code, rec.Header().Get("Allow"))
	}
}

// What people read in a terminal is what was written.
func TestTextIsNotEscaped(t *testing.T) {
	rec := httptest.NewRecorder()
	problem.Write(rec, problem.Problem{Status: 400, Detail: "a <b> & c"})
	if body := rec.Body.String(); !strings.Contains(body, `"a <b> & c"`) || strings.Count(body, "\n") != 1 {
		t.Errorf("got %q", body)
	}
	if h := rec.Header(); h.Get("Content-Type") != problem.ContentType || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("a browser may take it for a page: %v", h)
	}
}
