package subscriber

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/pkg/problem"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/subscriber/hub"
	"github.com/runcast/runcast/subscriber/sse"
	"github.com/runcast/runcast/subscriber/ws"
)

// StreamOptions are what streams of single workflows are made of.
type StreamOptions struct {
	// Source feeds the hub.
	Source hub.Source
	// Sparse says that the source knows versions; see [hub.Options]. Then a
	// request waits up to Config.OpenWait for the source before it is answered.
	Sparse bool
	// Refused returns why the source cannot follow a workflow, or nil. It is
	// asked before a stream opens: an error that wraps [progress.ErrNotFound]
	// is answered 404, one that wraps [hub.ErrFull] 503, any other 409. Nil
	// refuses none.
	Refused func(id string) error
	// Unknown is asked, before a stream opens, about a workflow of which a
	// source that is not sparse has nothing. Its error is answered as one of
	// Refused is; nil lets the viewer wait. Then each request waits up to
	// Config.OpenWait for the source; while that is away nobody is asked. Nil
	// lets everybody wait.
	Unknown func(ctx context.Context, id string) error
	// Parameters are those that a request may have beside the streams' own.
	Parameters []string
	// Config are the bounds; MaxViewers is this hub's alone.
	Config Config
	// Metrics is in front of the names of the metrics, and Labels is on each.
	Metrics string
	Labels  prometheus.Labels
	// Registerer takes the metrics.
	Registerer prometheus.Registerer
	Logger     *slog.Logger
}

// sparseEvery is how often a viewer of a sparse source is served at most.
const sparseEvery = 10 * time.Millisecond

// Streams answers requests for streams of single workflows, out of one hub.
type Streams struct {
	o          StreamOptions
	hub        *hub.Hub
	metrics    *metrics
	parameters parameters
	parse      func(string) (progress.Position, error)
}

// NewStreams returns streams that are not started: their source is to know
// their hub before. Its error is that of a metric that cannot be registered.
func NewStreams(o StreamOptions) (*Streams, error) {
	o.Config.setDefaults()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Streams{
		o: o, metrics: newMetrics(o.Metrics, o.Labels), parse: progress.ParsePosition,
		parameters: parameters{once: slices.Concat(streamParameters.once, o.Parameters)},
	}
	ho := hub.Options{
		RingLen: o.Config.RingLen, Linger: o.Config.Linger, CompareEvery: o.Config.CompareEvery,
		HeartbeatEvery: o.Config.HeartbeatEvery, RelistEvery: o.Config.RelistEvery,
		MaxConns: o.Config.MaxViewers, Sparse: o.Sparse,
		OnLatency:      func(d time.Duration) { s.metrics.latency.Observe(d.Seconds()) },
		OnEventLatency: func(d time.Duration) { s.metrics.eventLatency.Observe(d.Seconds()) },
		Logger:         o.Logger,
	}
	if o.Sparse {
		s.parse, ho.LatestEvery = progress.ParseVersion, sparseEvery
	}
	s.hub = hub.New(o.Source, ho)
	if err := s.metrics.register(o.Registerer, s.hub); err != nil {
		return nil, fmt.Errorf("subscriber: register metrics: %w", err)
	}
	return s, nil
}

// Hub returns the hub, for its source.
func (s *Streams) Hub() *hub.Hub { return s.hub }

// Start begins. Streams are served between Start and Stop.
func (s *Streams) Start() { s.hub.Start() }

// Stop has every viewer reconnect elsewhere, cuts those that are left when ctx
// ends, and waits for all that the hub does.
func (s *Streams) Stop(ctx context.Context) {
	s.hub.Drain(ctx)
	s.hub.Stop()
}

// admit takes a place for a stream, which the caller releases, or refuses it
// at once and returns nil. Those who are refused together do not all come
// back together.
func (s *Streams) admit(w http.ResponseWriter) *hub.Place {
	place, err := s.hub.Reserve()
	if err == nil {
		return place
	}
	reason, detail := "draining", "This node is stopping; connect again to reach another one."
	if errors.Is(err, hub.ErrFull) {
		reason, detail = "viewers", "This node has as many viewers as it takes; try again later or on another one."
	}
	s.later(w, reason, detail)
	return nil
}

// later refuses a stream for now.
func (s *Streams) later(w http.ResponseWriter, reason, detail string) {
	s.metrics.refused.WithLabelValues(reason).Inc()
	w.Header().Set("Retry-After", strconv.Itoa(1+rand.IntN(1+2*int(s.o.Config.Drain.Seconds()))))
	problem.Write(w, problem.Problem{Status: http.StatusServiceUnavailable, Detail: detail})
}

// opening is a stream that is about to be answered.
type opening struct {
	topic sse.Topic
	// atEnd says that the viewer has everything already.
	atEnd bool
	place *hub.Place
	// held is the topic, where the source was waited for.
	held *hub.Handle
}

// release gives back what was taken. It is called once, when the stream has
// its own.
func (o *opening) release() {
	o.place.Release()
	if o.held != nil {
		o.held.Release()
	}
}

// begin reads the request for one workflow's stream. It answers what cannot be
// streamed, and returns nil.
func (s *Streams) begin(w http.ResponseWriter, r *http.Request) *opening {
	id, err := pathID(r)
	if err != nil {
		s.fail(w, r, err)
		return nil
	}
	q, err := s.parameters.query(r)
	if err != nil {
		s.fail(w, r, err)
		return nil
	}
	o := &opening{}
	o.topic.Name = progress.Topic{Kind: progress.TopicWorkflow, Name: id}
	if o.topic.Want, err = wantIn(s.parse, position(r), q.Get("run"), q.Get("mode")); err != nil {
		s.fail(w, r, err)
		return nil
	}
	if o.place = s.admit(w); o.place == nil {
		return nil
	}
	if err := s.open(r.Context(), o); err != nil {
		o.release()
		if errors.Is(err, hub.ErrFull) {
			s.later(w, "upstreams", "This node follows as many workflows in this way as it may; try again later, on another node, or by another strategy.")
			return nil
		}
		s.metrics.refused.WithLabelValues("workflow").Inc()
		if errors.Is(err, progress.ErrNotFound) {
			s.fail(w, r, err)
		} else {
			problem.Write(w, problem.Problem{Status: http.StatusConflict, Detail: err.Error()})
		}
		return nil
	}
	return o
}

// open finds out whether the workflow can be followed, and whether the viewer
// has everything already. That needs the source; while it is away, the stream
// opens and waits like any other.
func (s *Streams) open(ctx context.Context, o *opening) error {
	after := o.topic.Want.After
	resumes := after != nil && !after.IsZero()
	if !resumes && !s.o.Sparse && s.o.Unknown == nil {
		return nil
	}
	request := ctx
	ctx, cancel := context.WithTimeout(ctx, s.o.Config.OpenWait)
	defer cancel()
	h := s.hub.Open(ctx, o.topic.Name)
	if s.o.Sparse || s.o.Unknown != nil {
		// What was learned is not to be forgotten before the stream has it.
		o.held = &h
	} else {
		defer h.Release()
	}
	if s.o.Refused != nil {
		if err := s.o.Refused(o.topic.Name.Name); err != nil {
			return err
		}
	}
	if s.o.Unknown != nil && h.Empty() {
		return s.o.Unknown(request, o.topic.Name.Name)
	}
	o.atEnd = resumes && h.AtEnd(ctx, *after, o.topic.Want.Run)
	return nil
}

// SSE answers a request for a stream of the workflow that its route names
// {id}.
func (s *Streams) SSE(w http.ResponseWriter, r *http.Request) {
	o := s.begin(w, r)
	if o == nil {
		return
	}
	defer o.release()
	if o.atEnd {
		// This, and nothing else, has EventSource stop.
		w.WriteHeader(http.StatusNoContent)
		return
	}
	s.serveSSE(w, r, o.place, sse.Options{Topics: []sse.Topic{o.topic}})
}

func (s *Streams) serveSSE(w http.ResponseWriter, r *http.Request, place *hub.Place, o sse.Options) {
	o.WriteDeadline, o.Retry, o.DrainSpread = s.o.Config.WriteDeadline, s.o.Config.Retry, s.o.Config.Drain
	if err := sse.Serve(w, r, place, o); err != nil {
		s.fail(w, r, err)
	}
}

// WS is SSE for a WebSocket.
func (s *Streams) WS(w http.ResponseWriter, r *http.Request) {
	if !s.upgrade(w, r) {
		return
	}
	o := s.begin(w, r)
	if o == nil {
		return
	}
	defer o.release()
	s.serveWS(w, r, o.place, ws.Options{
		Quiet: o.atEnd, MaxMessage: 1 << 10,
		Begin: func(c *hub.Conn) {
			_ = c.Follow(o.topic.Name, o.topic.Want) // fails if it has ended meanwhile
		},
	})
}

func (s *Streams) serveWS(w http.ResponseWriter, r *http.Request, place *hub.Place, o ws.Options) {
	o.WriteDeadline, o.Retry, o.DrainSpread = s.o.Config.WriteDeadline, s.o.Config.Retry, s.o.Config.Drain
	if err := ws.Serve(w, r, place, o); err != nil {
		s.o.Logger.Debug("handshake failed", "error", err)
	}
}

// upgrade answers a request that is no WebSocket handshake, or not one for
// this page, and returns false.
func (s *Streams) upgrade(w http.ResponseWriter, r *http.Request) bool {
	status, detail := 0, ""
	switch {
	case !hasToken(r.Header, "Upgrade", "websocket") || !hasToken(r.Header, "Connection", "upgrade"):
		status, detail = http.StatusUpgradeRequired, "This is a WebSocket; connect with ws:// or wss://, or use the /stream beside it."
	case r.ProtoMajor != 1:
		status, detail = http.StatusUpgradeRequired, "WebSockets are served over HTTP/1.1 only."
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		w.Header().Set("Sec-WebSocket-Version", "13")
		status, detail = http.StatusUpgradeRequired, "Only version 13 of the WebSocket protocol is spoken here."
	case r.Header.Get("Sec-WebSocket-Key") == "":
		status, detail = http.StatusBadRequest, "The handshake lacks Sec-WebSocket-Key."
	case !s.originMay(r):
		status, detail = http.StatusForbidden, "Pages of "+clip(r.Header.Get("Origin"))+" may not connect; add the origin to RUNCAST_ALLOWED_ORIGINS."
	default:
		return true
	}
	if status == http.StatusUpgradeRequired {
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
	}
	problem.Write(w, problem.Problem{Status: status, Detail: detail})
	return false
}

func hasToken(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for one := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(one), token) {
				return true
			}
		}
	}
	return false
}

func listed(list settings.Origins, origin string) bool {
	return slices.Contains(list, "*") || slices.Contains(list, origin)
}

// originMay reports whether a WebSocket may be opened by the page that asks:
// browsers do not ask CORS for those. Who is no browser sends no origin.
func (s *Streams) originMay(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || listed(s.o.Config.AllowedOrigins, origin) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// fail answers an error of the store or of the request, and logs what is the
// server's fault.
func (s *Streams) fail(w http.ResponseWriter, r *http.Request, err error) {
	if status := problem.StatusOf(err); status >= 500 && r.Context().Err() == nil {
		s.o.Logger.Warn("request failed", "path", r.URL.Path, "error", err)
	}
	problem.Error(w, err)
}
