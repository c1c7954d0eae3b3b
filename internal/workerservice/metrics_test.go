package workerservice

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/runcast/runcast/pkg/agents"
	"github.com/runcast/runcast/pkg/message"
)

// failing is a carrier that answers with one error, and finds so many.
type failing struct {
	err   error
	finds int
}

func (f failing) Send(context.Context, message.Outgoing) (message.Receipt, error) {
	return message.Receipt{}, f.err
}

func (f failing) Find(context.Context, message.Outgoing, time.Time) ([]message.Receipt, error) {
	return make([]message.Receipt, f.finds), f.err
}

// thinks is an agent that finds what it is made to.
type thinks struct {
	failed bool
	err    error
}

func (a thinks) Run(context.Context, agents.Task, agents.Watcher) (agents.Finding, error) {
	return agents.Finding{Failed: a.failed}, a.err
}

// Sends are counted by outcome and Twilio's code, lookups by what was found,
// agents by how it went; wrong credentials are a line in the log, not one for
// each message.
func TestMessagingMetrics(t *testing.T) {
	var log bytes.Buffer
	registry := prometheus.NewRegistry()
	m := newMetrics(registry)
	c := &measuredCarrier{metrics: m, logger: slog.New(slog.NewTextHandler(&log, nil))}
	out := message.Outgoing{Channel: message.ChannelSMS, To: "+61491570156", Text: "the secret text"}
	credentials := &message.Error{Class: message.ErrRefused, Code: 20003, HTTPStatus: 401, Cause: fmt.Errorf("%w: check TWILIO_AUTH_TOKEN", message.ErrCredentials)}
	for _, f := range []failing{
		{}, {}, {finds: 1},
		{err: &message.Error{Class: message.ErrOptedOut, Code: 21610}}, {err: &message.Error{Class: message.ErrBadNumber, Code: 21211}},
		{err: credentials}, {err: credentials}, {err: &message.Error{Class: message.ErrRefused, Code: 30034}},
		{err: &message.Error{Class: message.ErrUnavailable, HTTPStatus: 503}}, {err: &message.Error{Class: message.ErrUnknown}},
	} {
		c.Messenger = f
		if _, err := c.Send(t.Context(), out); !errors.Is(err, f.err) {
			t.Errorf("got %v, want %v", err, f.err)
		}
		if found, err := c.Find(t.Context(), out, time.Time{}); len(found) != f.finds || !errors.Is(err, f.err) {
			t.Errorf("found %v, %v", found, err)
		}
	}
	team := m.measured(agents.Team{agents.Router: thinks{}, agents.Policy: thinks{failed: true}, agents.Composer: thinks{err: errors.New("away")}})
	for _, agent := range team {
		_, _ = agent.Run(t.Context(), agents.Task{}, nil)
	}
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	text := rec.Body.String()
	for _, want := range []string{
		`runcast_messages_sends_total{channel="sms",code="0",outcome="sent"} 3`,
		`runcast_messages_sends_total{channel="sms",code="21610",outcome="opted_out"} 1`,
		`runcast_messages_sends_total{channel="sms",code="21211",outcome="bad_number"} 1`,
		`runcast_messages_sends_total{channel="sms",code="20003",outcome="credentials"} 2`,
		`runcast_messages_sends_total{channel="sms",code="30034",outcome="refused"} 1`,
		`runcast_messages_sends_total{channel="sms",code="0",outcome="unavailable"} 1`,
		`runcast_messages_sends_total{channel="sms",code="0",outcome="unknown"} 1`,
		`runcast_messages_send_seconds_count{channel="sms"} 10`,
		`runcast_messages_lookups_total{result="found"} 1`,
		`runcast_messages_lookups_total{result="none"} 2`,
		`runcast_messages_lookups_total{result="failed"} 7`,
		`runcast_agent_seconds_count{agent="router",result="ok"} 1`,
		`runcast_agent_seconds_count{agent="policy",result="failed"} 1`,
		`runcast_agent_seconds_count{agent="composer",result="failed"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in\n%s", want, text)
		}
	}
	if s := log.String(); strings.Count(s, "level=ERROR") != 1 || !strings.Contains(s, "TWILIO_AUTH_TOKEN") {
		t.Errorf("the log says %q", s)
	}
	for _, private := range []string{"491570156", "secret text"} {
		if strings.Contains(text+log.String(), private) {
			t.Errorf("%q shows", private)
		}
	}
}
