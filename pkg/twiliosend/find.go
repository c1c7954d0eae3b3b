package twiliosend

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	openapi "github.com/twilio/twilio-go/rest/api/v2010"

	"github.com/runcast/runcast/pkg/message"
)

// pageSize is how many of the newest messages between two addresses are
// looked at, the most that Twilio gives at once.
const pageSize = 1000

// clockSkew is how far Twilio's clock may be behind ours; its times have no
// fractions, either.
const clockSkew = 30 * time.Second

// trialPrefix is what Twilio puts before the texts of trial accounts.
const trialPrefix = "Sent from your Twilio trial account - "

// Find looks for messages that were sent since a time: to whom, from whom and
// with the text of m. It returns all of them, the oldest first: two messages
// with the same text to the same receiver cannot be told apart here, and the
// caller may know which of them are another's.
//
// Its error is a [*message.Error]; whatever its class, nothing was found out.
func (c *Client) Find(ctx context.Context, m message.Outgoing, since time.Time) ([]message.Receipt, error) {
	params := (&openapi.ListMessageParams{}).SetTo(m.To.Raw()).SetPageSize(pageSize)
	if from := c.from(m); from != "" && !strings.HasPrefix(from, "MG") {
		params.SetFrom(from) // a service's messages come from one of its numbers
	}
	var listed []openapi.ApiV2010Message
	err := c.attempt(ctx, func(api *openapi.ApiService) error {
		page, err := api.PageMessage(params, "", "")
		if err != nil {
			return err
		}
		listed = page.Messages
		return nil
	})
	if err != nil {
		return nil, err
	}
	var found []message.Receipt
	complete := len(listed) < pageSize
	for i := range listed { // the newest first
		sent := &listed[i]
		if created, ok := createdAt(sent); ok && created.Before(since.Add(-clockSkew)) {
			complete = true
			continue
		}
		if sent.Sid != nil && outbound(sent) && sameText(sent, m.Text) {
			found = append(found, receiptOf(sent))
		}
	}
	if !complete {
		// One of those not looked at may be it, and be the only one.
		return nil, &message.Error{Class: message.ErrUnknown, Cause: errors.New("too many messages since then to look at all of them")}
	}
	slices.Reverse(found)
	return found, nil
}

// createdAt reads when Twilio took a message. There is no time of sending
// while it is queued.
func createdAt(m *openapi.ApiV2010Message) (time.Time, bool) {
	if m.DateCreated == nil {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC1123Z, *m.DateCreated)
	return t, err == nil
}

// outbound reports whether m was sent through the API: what a number received,
// or a webhook's answer, is something else.
func outbound(m *openapi.ApiV2010Message) bool {
	return m.Direction == nil || *m.Direction == "outbound-api"
}

func sameText(m *openapi.ApiV2010Message, text string) bool {
	if m.Body == nil {
		return text == ""
	}
	return strings.TrimSpace(strings.TrimPrefix(*m.Body, trialPrefix)) == strings.TrimSpace(text)
}
