package subscriber

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/runcast/runcast/pkg/problem"
	"github.com/runcast/runcast/pkg/progress"
)

func (s *Server) routes() http.Handler {
	r := chi.NewRouter()
	r.Use(s.cors)
	r.NotFound(func(w http.ResponseWriter, req *http.Request) {
		if s.o.Page != nil && !strings.HasPrefix(req.URL.Path, "/v1/") {
			s.o.Page.ServeHTTP(w, req)
			return
		}
		problem.NotFound(w, req)
	})
	r.MethodNotAllowed(func(w http.ResponseWriter, req *http.Request) {
		problem.MethodNotAllowed(w, req, allowed(r, req)...)
	})
	// What has an end answers HEAD, too.
	read := func(path string, h http.HandlerFunc) {
		r.Get(path, h)
		r.Head(path, h)
	}
	read("/v1/workflows", s.list)
	read("/v1/workflows/{id}", s.snapshot)
	read("/v1/workflows/{id}/events", s.events)
	r.Get("/v1/workflows/{id}/stream", s.streams.SSE)
	r.Get("/v1/workflows/{id}/ws", s.streams.WS)
	r.Get("/v1/stream", s.streamMany)
	r.Get("/v1/ws", s.socketMany)
	read("/livez", func(w http.ResponseWriter, _ *http.Request) { writeText(w, "ok\n") })
	read("/readyz", s.ready)
	read("/metrics", promhttp.HandlerFor(s.o.Registry, promhttp.HandlerOpts{}).ServeHTTP)
	return r
}

// allowed returns the methods that a path has.
func allowed(r chi.Routes, req *http.Request) (methods []string) {
	path := cmp.Or(req.URL.RawPath, req.URL.Path)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		if r.Match(chi.NewRouteContext(), method, path) {
			methods = append(methods, method)
		}
	}
	return methods
}

// ready says whether a new viewer would be served.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if s.draining.Load() {
		problem.Write(w, problem.Problem{
			Status: http.StatusServiceUnavailable, Detail: "This node is stopping; use another one.",
		})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Second)
	defer cancel()
	detail := ""
	if err := s.o.Store.Ping(ctx); err != nil {
		s.proved.Store(false) // another server may come back
		detail = "Redis cannot be reached; check REDIS_URL and that the server runs. Open streams wait for it."
	} else if !s.prove(ctx) {
		detail = "Redis answers, but a stream could not be subscribed to and read: its user needs +@read +subscribe +unsubscribe +ping +multi +exec (on a cluster +ssubscribe +sunsubscribe +cluster, too), and the keys and channels of RUNCAST_KEY_PREFIX."
	}
	if detail != "" {
		w.Header().Set("Retry-After", "1")
		problem.Write(w, problem.Problem{Status: http.StatusServiceUnavailable, Detail: detail})
		return
	}
	writeText(w, "ready\n")
}

// probe is the workflow that ready opens, as a viewer would. Nobody writes it.
var probe = progress.Topic{Kind: progress.TopicWorkflow, Name: "runcast/readyz"}

// prove reports whether streams can be had: a user that may PING need not be
// one that may subscribe. Once it was so, it is not asked again while Redis
// answers.
func (s *Server) prove(ctx context.Context) bool {
	if s.proved.Load() {
		return true
	}
	h := s.streams.hub.Open(ctx, probe)
	defer h.Release()
	if h.Ready() {
		s.proved.Store(true)
	}
	return s.proved.Load()
}

// cors lets pages of allowed origins read the answers. There are no
// credentials to send along, so none are allowed.
func (s *Server) cors(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		if len(s.o.Config.AllowedOrigins) > 0 {
			w.Header().Add("Vary", "Origin")
		}
		if origin == "" || !listed(s.o.Config.AllowedOrigins, origin) {
			next.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", "ETag, Retry-After")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", "GET")
			h.Set("Access-Control-Allow-Headers", "Last-Event-ID, If-None-Match")
			h.Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// pathID returns the workflow ID in the path. The router matches the encoded
// path where it differs from the plain one (an ID with a slash), and only
// then is what it found still encoded.
func pathID(r *http.Request) (string, error) {
	id := chi.URLParam(r, "id")
	if r.URL.RawPath != "" {
		var err error
		if id, err = url.PathUnescape(id); err != nil {
			return "", fmt.Errorf("%w: the workflow ID in the path is not percent-encoded: %w", progress.ErrInvalid, err)
		}
	}
	return id, progress.CheckWorkflowID(id)
}

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(text)) // the client is gone if it fails
}

func writeJSON(w http.ResponseWriter, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // the client is gone if it fails
}

func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) { s.streams.fail(w, r, err) }

// invalid returns an error that is answered 400.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{progress.ErrInvalid}, args...)...)
}
