package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/runcast/runcast/internal/settings"
)

type smsCommand struct {
	Text string `arg:"" help:"What the message says, such as \"log 8h on apollo yesterday\"."`
	From string `help:"Who writes, such as +61491570156. Without it somebody who does not exist." placeholder:"NUMBER"`
	JSON bool   `name:"json" help:"Print one JSON object per frame, {\"event\",\"id\",\"data\"}. So it is, too, when the output is no terminal."`

	APIURL        *url.URL `name:"api-url" env:"RUNCAST_API_URL" default:"http://127.0.0.1:8081" help:"Where the API is." placeholder:"URL"`
	SubscriberURL *url.URL `name:"subscriber-url" env:"RUNCAST_SUBSCRIBER_URL" default:"http://127.0.0.1:8080" help:"Where the subscriber is." placeholder:"URL"`
}

// Validate is called by kong.
func (c *smsCommand) Validate() error {
	if u := c.APIURL; (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("--api-url (RUNCAST_API_URL) %q is no http or https URL", u.Redacted())
	}
	return (&watchCommand{SubscriberURL: c.SubscriberURL}).Validate()
}

// sendWithin bounds how long the API may take to take a message.
const sendWithin = 20 * time.Second

func (c *smsCommand) Run(ctx context.Context, std streams) error {
	if err := settings.CheckUnknown(settings.EnvOf(os.Environ())); err != nil {
		return err
	}
	id, run, err := c.send(ctx)
	if err != nil {
		return err
	}
	return (&watchCommand{ID: id, RunID: run, JSON: c.JSON, SubscriberURL: c.SubscriberURL}).follow(ctx, std)
}

// send hands the message to the API and returns which run answers it.
func (c *smsCommand) send(ctx context.Context) (id, run string, err error) {
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	body, err := json.Marshal(map[string]string{"from": c.From, "text": c.Text})
	if err != nil {
		return "", "", fmt.Errorf("encode the message: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.APIURL.JoinPath("v1", "messages").String(), bytes.NewReader(body))
	if err != nil {
		return "", "", err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", "", fmt.Errorf("send the message: %w", err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return "", "", fmt.Errorf("send the message: %w", err)
	}
	var answer struct {
		WorkflowID string `json:"workflow_id"`
		RunID      string `json:"run_id"`
		Detail     string `json:"detail"`
	}
	err = json.Unmarshal(text, &answer)
	switch {
	case res.StatusCode != http.StatusAccepted && answer.Detail != "":
		return "", "", fmt.Errorf("the API does not take the message: %s", printable(answer.Detail))
	case res.StatusCode != http.StatusAccepted:
		return "", "", fmt.Errorf("the API answered %s: %s", res.Status, printable(strings.TrimSpace(string(text))))
	case err != nil || answer.WorkflowID == "":
		return "", "", fmt.Errorf("%s does not answer as the API does", c.APIURL.Redacted())
	}
	return answer.WorkflowID, answer.RunID, nil
}
