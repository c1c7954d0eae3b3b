// Package problem writes HTTP errors as application/problem+json (RFC 9457),
// each naming its cause and its cure, and maps the error classes of
// [progress] to statuses, once for every service.
package problem

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/runcast/runcast/pkg/progress"
)

// ContentType is the media type of a problem.
const ContentType = "application/problem+json"

// Problem is one error answer. The zero value of a field leaves it out.
type Problem struct {
	// Status is the HTTP status; 0 is 500.
	Status int
	// Title is the short name of the kind of problem; "" is the status' text.
	Title string
	// Detail says, for people, what was wrong with this request and what
	// would help.
	Detail string
	// Extra are further members, such as a list of what would be accepted.
	Extra map[string]any
}

// Write answers the request with p. It sets no Allow or Retry-After: those
// belong to the caller, before.
func Write(w http.ResponseWriter, p Problem) {
	if p.Status == 0 {
		p.Status = http.StatusInternalServerError
	}
	if p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
	body := make(map[string]any, 3+len(p.Extra))
	for name, value := range p.Extra {
		body[name] = value
	}
	body["status"], body["title"] = p.Status, p.Title
	if p.Detail != "" {
		body["detail"] = p.Detail
	}
	data, err := encode(body)
	if err != nil { // an Extra that is no JSON; the rest is still worth saying
		data, _ = encode(map[string]any{"status": p.Status, "title": p.Title, "detail": p.Detail})
	}
	h := w.Header()
	h.Set("Content-Type", ContentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	// What a handler had said of its own body is not true of this one.
	h.Del("Content-Length")
	h.Del("Etag")
	w.WriteHeader(p.Status)
	w.Write(data) // the client is gone if it fails
}

// encode returns value as a line of JSON, with < and & as they are: people
// read it, and its content type keeps a browser from taking it for a page.
func encode(value any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	return b.Bytes(), err
}

// Error answers the request with err, by its class. A class that says nothing
// to the client (a bug, a broken store) gets a general detail: the caller
// logs err.
func Error(w http.ResponseWriter, err error) {
	status := StatusOf(err)
	detail := err.Error()
	switch status {
	case http.StatusInternalServerError:
		detail = "The server failed; its log says why."
	case http.StatusServiceUnavailable:
		detail = "The store cannot be reached now; try again."
		w.Header().Set("Retry-After", "1")
	}
	Write(w, Problem{Status: status, Detail: detail})
}

// StatusOf returns the HTTP status of an error class of [progress]; 500 for
// any other.
func StatusOf(err error) int {
	switch {
	case errors.Is(err, progress.ErrInvalid), errors.Is(err, progress.ErrBadPosition):
		return http.StatusBadRequest
	case errors.Is(err, progress.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, progress.ErrUnavailable):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// NotFound answers a path that no route has.
func NotFound(w http.ResponseWriter, r *http.Request) {
	Write(w, Problem{Status: http.StatusNotFound, Detail: "There is nothing at " + r.URL.Path + "."})
}

// MethodNotAllowed answers a method that the route does not have; allowed
// are those that it has.
func MethodNotAllowed(w http.ResponseWriter, r *http.Request, allowed ...string) {
	list := strings.Join(allowed, ", ")
	w.Header().Set("Allow", list)
	Write(w, Problem{
		Status: http.StatusMethodNotAllowed,
		Detail: r.Method + " is not possible here; use " + list + ".",
	})
}
