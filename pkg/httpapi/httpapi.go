// Package httpapi is the API service over HTTP: it starts workflows and says
// what Temporal knows of them. It answers at once; what a run does is
// followed on the subscriber's streams.
//
// It knows no Redis and no workflow code: types are told to it.
package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/runcast/runcast/pkg/problem"
	"github.com/runcast/runcast/pkg/twiliohook"
)

// Temporal is what this package needs of a client.
type Temporal interface {
	ExecuteWorkflow(ctx context.Context, o client.StartWorkflowOptions, workflow any, args ...any) (client.WorkflowRun, error)
	DescribeWorkflowExecution(ctx context.Context, workflowID, runID string) (*workflowservice.DescribeWorkflowExecutionResponse, error)
	GetWorkflow(ctx context.Context, workflowID, runID string) client.WorkflowRun
	UpdateWorkflow(ctx context.Context, o client.UpdateWorkflowOptions) (client.WorkflowUpdateHandle, error)
	SignalWorkflow(ctx context.Context, workflowID, runID, name string, arg any) error
	ScheduleClient() client.ScheduleClient
	CheckHealth(ctx context.Context, r *client.CheckHealthRequest) (*client.CheckHealthResponse, error)
}

// Type is a workflow type that may be started.
type Type struct {
	// CheckInput reports input that the workflow could not take: its error is
	// the client's answer. Input is nil where none was given. A nil CheckInput
	// takes everything.
	CheckInput func(input []byte) error
}

// Options of the service. Temporal and Types are required.
type Options struct {
	Temporal Temporal
	// Types are the workflow types that may be started, by name.
	Types map[string]Type
	// TaskQueue is where they run.
	TaskQueue string
	// Namespace is the client's; it is part of the links to Temporal's UI.
	Namespace string
	// UI is the base of links to Temporal's UI; "" leaves them out.
	UI string
	// Subscriber is the base of links to streams; "" makes them relative.
	Subscriber string
	// AllowedOrigins are the web origins whose pages may call; "*" is all.
	// Nil is none but the service's own.
	AllowedOrigins []string
	// Twilio checks who signed a webhook; nil: the webhooks answer 503, and
	// none is taken unchecked.
	Twilio *twiliohook.Verifier
	// DeadLetters are the webhooks that could not be delivered; nil: there are
	// none to be had, and their routes answer 503.
	DeadLetters DeadLetters
	// CheckPush reports a URL that no run can push to; nil: none can, and a
	// start that asks for it is refused.
	CheckPush func(url string) error
	// Callback takes what runs tell this node; nil: its route answers 503.
	Callback http.Handler
	// Wait is how long WhatsApp and e-mail wait for a reply, 2 s to [MaxWait];
	// 0 is [DefaultWait].
	Wait time.Duration
	// MaxWaiting bounds how many of them wait at once; the workflow sends what
	// nobody waits for. 0 is 200.
	MaxWaiting int
	// EmailToken is what a mail gateway has to send along, as a bearer token
	// or as a password. "" takes mails from everybody.
	EmailToken string
	// Receipts keeps what becomes of messages; nil keeps nothing.
	Receipts Receipts
	// Strategies answers what is below /v1/strategies, by a path without it; nil:
	// nothing does.
	Strategies http.Handler
	// StrategyHeader is the header by which Strategies' answers name the one of
	// few that served: pages may read it, and it is a label of the requests. "":
	// there is none.
	StrategyHeader string
	// DataConverter is the client's, for what schedules hold; nil is Temporal's
	// default.
	DataConverter converter.DataConverter
	// MaxBody bounds a request's body in bytes; 0 is 64 KiB.
	MaxBody int64
	// Timeout bounds each call to Temporal, all its retries included; 0 is 5 s.
	Timeout time.Duration
	// Registry takes the metrics and is what /metrics shows; nil is a new one.
	Registry *prometheus.Registry
	Logger   *slog.Logger
}

// defaultMaxBody is far more than a start needs and far less than Temporal's
// own bound for one payload (2 MiB).
const defaultMaxBody = 64 << 10

// defaultTimeout leaves room below the 10 to 15 s after which callers,
// webhooks among them, give up by themselves.
const defaultTimeout = 5 * time.Second

// defaultMaxWaiting is about what Temporal can be asked by all of them.
const defaultMaxWaiting = 200

type api struct {
	Options
	metrics *metrics
	// waiting holds one token for each request that waits for a reply.
	waiting chan struct{}
	known   []string // the types' names, sorted
}

// New returns the service's handler.
func New(o Options) (http.Handler, error) {
	if o.Temporal == nil || len(o.Types) == 0 || o.TaskQueue == "" {
		return nil, errors.New("httpapi: Temporal, Types and TaskQueue are required")
	}
	if o.MaxBody == 0 {
		o.MaxBody = defaultMaxBody
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.Wait == 0 {
		o.Wait = DefaultWait
	}
	if o.Wait < 2*claimTime || o.Wait > MaxWait {
		return nil, fmt.Errorf("httpapi: a wait of %v is not between %v and %v", o.Wait, 2*claimTime, MaxWait)
	}
	if o.MaxWaiting == 0 {
		o.MaxWaiting = defaultMaxWaiting
	}
	if o.DataConverter == nil {
		o.DataConverter = converter.GetDefaultDataConverter()
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Subscriber = strings.TrimSuffix(o.Subscriber, "/")
	o.UI = strings.TrimSuffix(o.UI, "/")
	a := &api{Options: o, known: slices.Sorted(maps.Keys(o.Types)), waiting: make(chan struct{}, o.MaxWaiting)}
	var err error
	if a.metrics, err = newMetrics(o.Registry, o.StrategyHeader); err != nil {
		return nil, err
	}
	guard, err := ownPages(o.AllowedOrigins)
	if err != nil {
		return nil, err
	}
	return a.routes(guard), nil
}

func (a *api) routes(guard func(http.Handler) http.Handler) http.Handler {
	r := chi.NewRouter()
	r.Use(a.metrics.observe, cors(a.AllowedOrigins, a.StrategyHeader), guard)
	r.NotFound(problem.NotFound)
	r.MethodNotAllowed(func(w http.ResponseWriter, req *http.Request) {
		problem.MethodNotAllowed(w, req, allowed(r, req)...)
	})
	r.With(noQuery).Post("/v1/workflows", a.start)
	read := func(path string, h http.HandlerFunc) {
		r.Get(path, h)
		r.Head(path, h)
	}
	read("/v1/workflows/{id}", noQuery(http.HandlerFunc(a.describe)).ServeHTTP)
	r.With(noQuery).Post("/v1/messages", a.typed)
	r.Post("/webhooks/twilio/sms", a.sms)
	r.Post("/webhooks/twilio/whatsapp", a.whatsApp)
	r.Post(statusPath, a.status)
	r.Post("/webhooks/email", a.email)
	r.With(noQuery).Post("/v1/reminders", a.remind)
	read("/v1/reminders/daily", noQuery(http.HandlerFunc(a.listDaily)).ServeHTTP)
	r.With(noQuery).Post("/v1/reminders/daily", a.remindDaily)
	read("/v1/reminders/daily/{id}", noQuery(http.HandlerFunc(a.describeDaily)).ServeHTTP)
	r.With(noQuery).Patch("/v1/reminders/daily/{id}", a.changeDaily)
	r.With(noQuery).Delete("/v1/reminders/daily/{id}", a.deleteDaily)
	read("/v1/deadletters", a.listLetters)
	r.With(noQuery).Post("/v1/deadletters/{id}/replay", a.replayLetter)
	r.With(noQuery).Delete("/v1/deadletters/{id}", a.deleteLetter)
	r.With(noQuery).Post(CallbackPath, a.callback)
	if a.Strategies != nil {
		r.Mount("/v1/strategies", a.Strategies)
	}
	read("/livez", func(w http.ResponseWriter, _ *http.Request) { writeText(w, "ok\n") })
	read("/readyz", a.ready)
	read("/metrics", promhttp.HandlerFor(a.Registry, promhttp.HandlerOpts{}).ServeHTTP)
	return r
}

// noQuery refuses query parameters, since none is known: a misspelt or
// misplaced one is not ignored.
func noQuery(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			problem.Write(w, problem.Problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf("The query cannot be read: %v.", err)})
			return
		}
		for name := range query {
			problem.Write(w, problem.Problem{
				Status: http.StatusBadRequest,
				Detail: fmt.Sprintf("There is no query parameter %q; this route takes none.", clip(name)),
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// allowed returns the methods that a path has.
func allowed(r chi.Routes, req *http.Request) []string {
	path := req.URL.RawPath
	if path == "" {
		path = req.URL.Path
	}
	var list []string
	for _, method := range []string{http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodPatch, http.MethodPost, http.MethodPut} {
		if r.Match(chi.NewRouteContext(), method, path) {
			list = append(list, method)
		}
	}
	return list
}

// ready says whether starts would work: whether Temporal takes calls.
func (a *api) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), min(a.Timeout, 2*time.Second))
	defer cancel()
	if _, err := a.Temporal.CheckHealth(ctx, &client.CheckHealthRequest{}); err != nil {
		problem.Write(w, problem.Problem{
			Status: http.StatusServiceUnavailable,
			Detail: "Temporal cannot be reached; check TEMPORAL_ADDRESS and that the server runs.",
		})
		return
	}
	writeText(w, "ready\n")
}

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(text)) // the client is gone if it fails
}

// pathID returns the workflow ID in the path. A router matches the encoded
// path where it differs from the plain one (an ID with a slash), and only
// then is what it found still encoded.
func pathID(r *http.Request) (string, error) {
	id := chi.URLParam(r, "id")
	if r.URL.RawPath == "" {
		return id, nil
	}
	return url.PathUnescape(id)
}
