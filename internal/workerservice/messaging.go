package workerservice

import (
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/activities"
	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/pkg/agents"
	"github.com/runcast/runcast/pkg/conversation"
	"github.com/runcast/runcast/pkg/twiliosend"
)

// messaging puts the messaging application together. What it does is counted
// in metrics.
func messaging(c Config, client redis.UniversalClient, metrics *metrics, logger *slog.Logger) (*activities.Messaging, error) {
	zone, err := c.Messages.Zone()
	if err != nil {
		return nil, err
	}
	workdays, err := c.Messages.Days()
	if err != nil {
		return nil, err
	}
	store := conversation.New(client, conversation.Options{
		Prefix: c.Redis.Prefix, KeepMessages: c.Messages.KeepMessages, KeepHours: c.Messages.KeepHours,
	})
	m := &activities.Messaging{Store: store, Team: metrics.measured(team(c.Messages, store)), Zone: zone, Workdays: workdays, ShowText: c.Messages.ShowText}
	if !c.Twilio.Sends() {
		logger.Info("messages go to the outbox: TWILIO_ACCOUNT_SID is not set")
		return m, nil
	}
	carrier, err := twiliosend.New(twiliosend.Options{
		AccountSID: c.Twilio.AccountSID, AuthToken: c.Twilio.AuthToken, APIKey: c.Twilio.APIKey, APISecret: c.Twilio.APISecret,
		From: c.Twilio.From, WhatsAppFrom: c.Twilio.WhatsAppFrom, BaseURL: c.Twilio.APIBaseURL,
	})
	if err != nil {
		return nil, fmt.Errorf("make the Twilio client: %w", err)
	}
	m.Carrier = &measuredCarrier{Messenger: carrier, metrics: metrics, logger: logger}
	return m, nil
}

func team(m settings.Messages, hours agents.Hours) agents.Team {
	if m.ModelURL == "" {
		return agents.Rules(hours)
	}
	return agents.Model(agents.ModelOptions{BaseURL: m.ModelURL, Key: m.ModelKey, Model: m.Model, Hours: hours})
}
