package twiliosend

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/twilio/twilio-go/client"
	openapi "github.com/twilio/twilio-go/rest/api/v2010"

	"github.com/runcast/runcast/pkg/message"
)

// Options of a [Client].
type Options struct {
	// AccountSID is the account that sends and pays. Required.
	AccountSID string
	// AuthToken is the account's. APIKey and APISecret, if set, are used in
	// its place: a key can be revoked by itself.
	AuthToken         string
	APIKey, APISecret string
	// From is who sends where a message does not say so: a number, or the SID
	// of a messaging service (MG…). WhatsAppFrom is the same for WhatsApp
	// ("whatsapp:+14155238886"). "" is none.
	From, WhatsAppFrom string
	// BaseURL takes the place of https://api.twilio.com; "" is that.
	BaseURL string
	// Timeout bounds one attempt; 0 is 10 s.
	Timeout time.Duration
	// Transport makes the requests; nil is [http.DefaultTransport].
	Transport http.RoundTripper
}

// defaultTimeout is twilio-go's own.
const defaultTimeout = 10 * time.Second

// Client sends. Its methods may be called concurrently.
type Client struct {
	o    Options
	base *url.URL // nil is Twilio's own
}

// New returns a client. It calls nobody.
func New(o Options) (*Client, error) {
	switch {
	case o.AccountSID == "":
		return nil, errors.New("twiliosend: the account SID is required (TWILIO_ACCOUNT_SID)")
	case (o.APIKey == "") != (o.APISecret == ""):
		return nil, errors.New("twiliosend: an API key and its secret go together (TWILIO_API_KEY, TWILIO_API_SECRET)")
	case o.APIKey == "" && o.AuthToken == "":
		return nil, errors.New("twiliosend: an auth token or an API key is required (TWILIO_AUTH_TOKEN, or TWILIO_API_KEY and TWILIO_API_SECRET)")
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.Transport == nil {
		o.Transport = http.DefaultTransport
	}
	c := &Client{o: o}
	if o.BaseURL != "" {
		base, err := url.Parse(o.BaseURL)
		if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
			return nil, fmt.Errorf("twiliosend: the base URL %q is not one such as https://api.twilio.com (TWILIO_API_BASE_URL)", o.BaseURL)
		}
		c.base = base
	}
	return c, nil
}

// Send makes one attempt to send. Its error is a [*message.Error]: of all its
// classes only after [message.ErrUnknown] the message may have been sent.
func (c *Client) Send(ctx context.Context, m message.Outgoing) (message.Receipt, error) {
	params := &openapi.CreateMessageParams{}
	params.SetTo(m.To.Raw())
	params.SetBody(m.Text)
	if m.StatusCallback != "" {
		params.SetStatusCallback(m.StatusCallback)
	}
	switch from := c.from(m); {
	case from == "":
		return message.Receipt{}, &message.Error{Class: message.ErrRefused, Cause: errors.New("nobody to send it from: set TWILIO_FROM, or TWILIO_WHATSAPP_FROM for WhatsApp")}
	case strings.HasPrefix(from, "MG"):
		params.SetMessagingServiceSid(from)
	default:
		params.SetFrom(from)
	}
	var receipt message.Receipt
	err := c.attempt(ctx, func(api *openapi.ApiService) error {
		sent, err := api.CreateMessage(params)
		if err != nil {
			return err
		}
		if sent.Sid == nil {
			return errors.New("the answer names no message")
		}
		receipt = receiptOf(sent)
		return nil
	})
	return receipt, err
}

// from returns who sends m.
func (c *Client) from(m message.Outgoing) string {
	switch {
	case m.From != "":
		return m.From.Raw()
	case m.Channel == message.ChannelWhatsApp:
		return c.o.WhatsAppFrom
	}
	return c.o.From
}

// receiptOf reads what Twilio says of a message.
func receiptOf(m *openapi.ApiV2010Message) message.Receipt {
	r := message.Receipt{SID: *m.Sid}
	if m.Status != nil {
		r.Status = message.Status(*m.Status)
	}
	if m.ErrorCode != nil {
		r.ErrorCode = *m.ErrorCode
	}
	return r
}

// attempt makes one call with a client of its own: twilio-go's know no
// context, and what became of the connection is known to the transport only.
func (c *Client) attempt(ctx context.Context, call func(*openapi.ApiService) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	t := &transport{ctx: ctx, base: c.base, next: c.o.Transport}
	user, password := c.o.AccountSID, c.o.AuthToken
	if c.o.APIKey != "" {
		user, password = c.o.APIKey, c.o.APISecret
	}
	twilio := &client.Client{
		Credentials: client.NewCredentials(user, password),
		HTTPClient: &http.Client{
			Transport: t,
			// Credentials and texts go where they were sent, and nowhere else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	twilio.SetAccountSid(c.o.AccountSID)
	// Not by its constructor, which reads TWILIO_EDGE and TWILIO_REGION of the
	// process.
	err := call(openapi.NewApiService(&client.RequestHandler{Client: twilio}))
	if err == nil {
		return nil
	}
	return t.classify(err)
}
