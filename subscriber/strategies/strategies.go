// Package strategies serves every way to follow a workflow over HTTP, each by
// a hub of its own: whatever the strategy and the number of viewers, a
// workflow is followed once. It also chooses a strategy for those who ask for
// [Auto].
//
// It does not know how a workflow is followed; see [Way].
package strategies

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/runcast/runcast/internal/choice"
	"github.com/runcast/runcast/pkg/problem"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/subscriber"
	"github.com/runcast/runcast/subscriber/follow"
)

// Auto is the strategy that is chosen by rule.
const Auto = "auto"

// Header names the strategy in an answer.
const Header = "Runcast-Strategy"

// Way is one way to follow a workflow.
type Way struct {
	Name string
	// About is a sentence for people.
	About string
	// Watcher follows; nil: the store does, with all that it promises.
	Watcher follow.Watcher
	// Find says whether there is a workflow of which the store has nothing: a
	// viewer of one for which its error wraps [progress.ErrNotFound] is
	// refused, any other waits. All who ask at once share one call, and a
	// [Later] is kept. Nil: all wait. It is for a way without a watcher, which
	// refuses by itself.
	Find func(ctx context.Context, id string) error
}

// Options of the service. Ways and Rules are required.
type Options struct {
	// Ways are served in this order.
	Ways []Way
	// Missing are ways that are not served as things are, with what would help.
	Missing map[string]string
	// Store is for the ways without a watcher. The service does not close it.
	Store *redisstore.Store
	// Rules choose among the ways, by the workflow's type.
	Rules *choice.Rules
	// TypeOf returns a workflow's type; the error wraps [progress.ErrNotFound]
	// where there is no such workflow. It is asked once a minute for each
	// workflow at most, again after a failure that is no [Later], and only where
	// a type has a rule of its own. Its context has a deadline.
	TypeOf func(ctx context.Context, id string) (string, error)
	// Config are the bounds of each way's streams.
	Config subscriber.Config
	// MaxUpstreams bounds how many workflows each way with a watcher follows
	// at a time; [follow.DefaultMax].
	MaxUpstreams int
	// Registerer takes the metrics.
	Registerer prometheus.Registerer
	Logger     *slog.Logger
}

// Service serves the ways. Streams are served between Start and Stop.
type Service struct {
	o       Options
	ways    map[string]*way
	names   []string // of the ways, and Auto
	types   *answers
	metrics *metrics
	handler http.Handler

	stopping sync.Mutex // held by Stop to its end
	stopped  bool
}

// way is one way as it is served.
type way struct {
	Way
	streams *subscriber.Streams
	feed    func()
	close   func() error
}

// New returns a service that is not started.
func New(o Options) (*Service, error) {
	if len(o.Ways) == 0 || o.Rules == nil || o.Registerer == nil {
		return nil, errors.New("strategies: Ways, Rules and Registerer are required")
	}
	if o.TypeOf == nil && len(o.Rules.Types()) > 0 {
		return nil, errors.New("strategies: TypeOf is required for rules by type")
	}
	s := &Service{o: o, ways: make(map[string]*way), types: newAnswers(o.TypeOf, 0)}
	for _, one := range o.Ways {
		w, err := s.serve(one)
		if err != nil {
			return nil, fmt.Errorf("strategies: %s: %w", one.Name, err)
		}
		s.ways[one.Name] = w
		s.names = append(s.names, one.Name)
	}
	s.names = append(s.names, Auto)
	var err error
	if s.metrics, err = newMetrics(o.Registerer, s.ways); err != nil {
		return nil, fmt.Errorf("strategies: register metrics: %w", err)
	}
	s.handler = s.routes()
	return s, nil
}

// serve makes the streams of one way.
func (s *Service) serve(one Way) (*way, error) {
	w := &way{Way: one}
	so := subscriber.StreamOptions{
		Parameters: []string{viewerParameter}, Config: s.o.Config, Logger: s.o.Logger,
		Metrics: metricsPrefix, Labels: prometheus.Labels{"strategy": one.Name}, Registerer: s.o.Registerer,
	}
	var err error
	if one.Watcher == nil {
		if s.o.Store == nil {
			return nil, errors.New("it has neither a watcher nor a store")
		}
		source := subscriber.NewSource(s.o.Store)
		so.Source, so.Unknown, w.close = source, s.unknown(w), source.Close
		so.Config.OpenWait = storeWait
		w.feed = func() { source.Feed(w.streams.Hub()) }
	} else {
		logger := s.o.Logger
		if logger != nil {
			logger = logger.With("strategy", one.Name)
		}
		source := follow.New(follow.Options{Watcher: one.Watcher, Max: s.o.MaxUpstreams, Logger: logger})
		so.Source, so.Sparse, so.Refused, w.close = source, true, source.Refused, source.Close
		w.feed = func() { source.Feed(w.streams.Hub()) }
		err = registerUpstream(s.o.Registerer, one.Name, source.Stats())
	}
	if err == nil {
		w.streams, err = subscriber.NewStreams(so)
	}
	return w, err
}

// Handler serves the routes below /v1/strategies.
func (s *Service) Handler() http.Handler { return s.handler }

// Start begins. It is called once.
func (s *Service) Start() {
	for _, w := range s.ways {
		w.feed()
		w.streams.Start()
	}
}

// Stop has every viewer reconnect elsewhere, cuts those that are left when ctx
// ends, and waits for all that is followed to end. It is called after Start;
// a second time it does nothing.
func (s *Service) Stop(ctx context.Context) error {
	s.stopping.Lock()
	defer s.stopping.Unlock()
	if s.stopped {
		return nil
	}
	s.stopped = true
	var wg sync.WaitGroup
	errs := make([]error, len(s.o.Ways))
	for i, one := range s.o.Ways {
		w := s.ways[one.Name]
		wg.Go(func() {
			w.streams.Stop(ctx)
			errs[i] = w.close()
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *Service) routes() http.Handler {
	r := chi.NewRouter()
	r.Get("/", s.list)
	r.Head("/", s.list)
	r.Get("/{strategy}/workflows/{id}/stream", s.stream((*subscriber.Streams).SSE))
	r.Get("/{strategy}/workflows/{id}/ws", s.stream((*subscriber.Streams).WS))
	return r
}

// listed is a strategy in the list.
type listed struct {
	Name  string `json:"name"`
	About string `json:"about"`
	// Stream and WS are the routes, with {id} for the workflow's ID.
	Stream string `json:"stream"`
	WS     string `json:"ws"`
}

func (s *Service) list(w http.ResponseWriter, r *http.Request) {
	if r.URL.RawQuery != "" {
		problem.Write(w, problem.Problem{Status: http.StatusBadRequest, Detail: "This route takes no query parameters."})
		return
	}
	list := make([]listed, 0, len(s.names))
	add := func(name, about string) {
		base := "/v1/strategies/" + name + "/workflows/{id}/"
		list = append(list, listed{name, about, base + "stream", base + "ws"})
	}
	for _, one := range s.o.Ways {
		add(one.Name, one.About)
	}
	add(Auto, "One of these, by the rule for the workflow's type; the answer's "+Header+" header names it.")
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(map[string]any{"strategies": list}) // the client is gone if it fails
}

// stream answers a request for a stream by the strategy in its path.
func (s *Service) stream(serve func(*subscriber.Streams, http.ResponseWriter, *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name := chi.URLParam(r, "strategy")
		if name != Auto && s.ways[name] == nil {
			detail := fmt.Sprintf("There is no strategy %q; use %s.", clip(name), strings.Join(s.names, ", "))
			if why := s.o.Missing[name]; why != "" {
				detail = fmt.Sprintf("The strategy %q is not served here: %s. Or use %s.", name, why, strings.Join(s.names, ", "))
			}
			problem.Write(w, problem.Problem{
				Status: http.StatusNotFound, Detail: detail,
				Extra: map[string]any{"strategies": slices.Clone(s.names)},
			})
			return
		}
		if name == Auto {
			var ok bool
			if name, ok = s.choose(w, r); !ok {
				return
			}
		}
		w.Header().Set(Header, name)
		serve(s.ways[name].streams, w, r)
	}
}

// clip bounds a stranger's input in a message.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
