package workerservice

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/runcast/runcast/activities"
	"github.com/runcast/runcast/pkg/agents"
	"github.com/runcast/runcast/pkg/message"
)

// metrics are those of the messaging application.
type metrics struct {
	sends   *prometheus.CounterVec
	took    *prometheus.HistogramVec
	lookups *prometheus.CounterVec
	agents  *prometheus.HistogramVec
}

// newMetrics returns the metrics, registered.
func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		sends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "runcast_messages_sends_total",
			Help: "Attempts to send a message by Twilio, by outcome and Twilio's error code (0: none).",
		}, []string{"channel", "outcome", "code"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "runcast_messages_send_seconds", Help: "How long attempts to send took.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 15},
		}, []string{"channel"}),
		lookups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "runcast_messages_lookups_total",
			Help: "Searches for what an attempt of unknown outcome may have sent, by result: found, none or failed.",
		}, []string{"result"}),
		agents: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "runcast_agent_seconds", Help: "How long agents worked, by result: ok or failed.",
			Buckets: []float64{.001, .005, .025, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"agent", "result"}),
	}
	registry.MustRegister(m.sends, m.took, m.lookups, m.agents)
	return m
}

// measuredCarrier is a carrier whose attempts are counted. What an operator
// has to mend it logs, too.
type measuredCarrier struct {
	activities.Messenger
	metrics *metrics
	logger  *slog.Logger

	mu   sync.Mutex
	said time.Time // when the credentials were last complained of
}

// sayEvery is how often the log says that the credentials are wrong.
const sayEvery = time.Minute

// Send implements [activities.Messenger].
func (c *measuredCarrier) Send(ctx context.Context, out message.Outgoing) (message.Receipt, error) {
	begin := time.Now()
	r, err := c.Messenger.Send(ctx, out)
	c.metrics.took.WithLabelValues(string(out.Channel)).Observe(time.Since(begin).Seconds())
	c.metrics.sends.WithLabelValues(string(out.Channel), outcome(err), strconv.Itoa(message.CodeOf(err))).Inc()
	if errors.Is(err, message.ErrCredentials) && c.complain() {
		c.logger.Error("no message can be sent", "error", err)
	}
	return r, err
}

// complain reports whether it is time to complain.
func (c *measuredCarrier) complain() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.said.IsZero() && time.Since(c.said) < sayEvery {
		return false
	}
	c.said = time.Now()
	return true
}

// Find implements [activities.Messenger].
func (c *measuredCarrier) Find(ctx context.Context, out message.Outgoing, since time.Time) ([]message.Receipt, error) {
	found, err := c.Messenger.Find(ctx, out, since)
	result := "found"
	switch {
	case err != nil:
		result = "failed"
	case len(found) == 0:
		result = "none"
	}
	c.metrics.lookups.WithLabelValues(result).Inc()
	return found, err
}

// outcome names what became of an attempt to send.
func outcome(err error) string {
	switch {
	case err == nil:
		return "sent"
	case errors.Is(err, message.ErrOptedOut):
		return "opted_out"
	case errors.Is(err, message.ErrBadNumber):
		return "bad_number"
	case errors.Is(err, message.ErrCredentials):
		return "credentials"
	case errors.Is(err, message.ErrRefused):
		return "refused"
	case errors.Is(err, message.ErrUnavailable):
		return "unavailable"
	}
	return "unknown"
}

// measuredAgent is an agent whose work is timed.
type measuredAgent struct {
	agents.Agent
	name    agents.Name
	metrics *metrics
}

// Run implements [agents.Agent].
func (a measuredAgent) Run(ctx context.Context, task agents.Task, w agents.Watcher) (agents.Finding, error) {
	begin := time.Now()
	f, err := a.Agent.Run(ctx, task, w)
	result := "ok"
	if err != nil || f.Failed {
		result = "failed"
	}
	a.metrics.agents.WithLabelValues(string(a.name), result).Observe(time.Since(begin).Seconds())
	return f, err
}

// measured returns a team whose work is timed.
func (m *metrics) measured(team agents.Team) agents.Team {
	list := make(agents.Team, len(team))
	for name, agent := range team {
		list[name] = measuredAgent{agent, name, m}
	}
	return list
}
