// Package apiservice is the API service as a program: its settings, and how
// its parts are put together.
package apiservice

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"
	_ "time/tzdata" // reminders have time zones; an image may have none

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.temporal.io/sdk/client"

	"github.com/runcast/runcast/internal/httpserve"
	"github.com/runcast/runcast/internal/redislog"
	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/internal/statsmetrics"
	"github.com/runcast/runcast/internal/temporalenv"
	"github.com/runcast/runcast/pkg/conversation"
	"github.com/runcast/runcast/pkg/httpapi"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/reporter"
	"github.com/runcast/runcast/pkg/twiliohook"
	"github.com/runcast/runcast/subscriber/follow"
	"github.com/runcast/runcast/subscriber/strategies"
	"github.com/runcast/runcast/workflows"
)

// notesFor bounds how long the end of the service waits until the notes are
// written that runs are queued.
const notesFor = 2 * time.Second

// Config are the settings. TEMPORAL_* variables say where Temporal is.
type Config struct {
	Addr           string            `name:"addr" from:"RUNCAST_API_ADDR" default:"127.0.0.1:8081" help:"Where to listen. There is no authentication yet: think before it is not loopback."`
	SubscriberURL  string            `name:"subscriber-url" from:"RUNCAST_SUBSCRIBER_URL" default:"http://127.0.0.1:8080" help:"The subscriber as its viewers reach it, for links to streams."`
	TemporalUIURL  string            `name:"temporal-ui-url" from:"RUNCAST_TEMPORAL_UI_URL" help:"Temporal's web UI, for links to runs. Empty: no links."`
	AllowedOrigins settings.Origins  `name:"allowed-origins" from:"RUNCAST_ALLOWED_ORIGINS" placeholder:"ORIGIN,…" help:"Web origins whose pages may call, or *."`
	TaskQueue      string            `name:"task-queue" from:"RUNCAST_TASK_QUEUE" default:"${task_queue}" help:"Task queue of the runs that are started."`
	MaxBody        int64             `name:"max-body" from:"RUNCAST_MAX_BODY" default:"65536" help:"Longest request body, in bytes."`
	PublicURL      string            `name:"public-url" from:"RUNCAST_PUBLIC_URL" help:"This service as Twilio reaches it: the base of the webhooks' URLs. Signatures are checked against it."`
	TrustedProxies settings.Proxies  `name:"trusted-proxies" from:"RUNCAST_TRUSTED_PROXIES" placeholder:"CIDR,…" help:"Without a public URL: networks of proxies whose X-Forwarded-Proto and X-Forwarded-Host are believed."`
	AuthToken      string            `name:"twilio-auth-token" from:"TWILIO_AUTH_TOKEN" placeholder:"TOKEN" help:"The Twilio account's auth token, with which webhooks are signed. Empty: the webhooks answer 503."`
	ReplyWait      time.Duration     `name:"reply-wait" from:"RUNCAST_REPLY_WAIT" default:"${reply_wait}" help:"How long a webhook of WhatsApp or e-mail waits for the reply, 2s to 14s; then the workflow sends it."`
	EmailToken     string            `name:"email-token" from:"RUNCAST_EMAIL_TOKEN" placeholder:"TOKEN" help:"What a mail gateway has to send along, as a bearer token or as a password. Empty: mails are taken from everybody who reaches this service."`
	KeepMessages   time.Duration     `name:"keep-messages" from:"RUNCAST_KEEP_MESSAGES" default:"720h" help:"How long what becomes of messages is kept."`
	CallbackURL    string            `name:"callback-url" from:"RUNCAST_CALLBACK_URL" placeholder:"URL" help:"This node as workers reach it, such as http://10.1.2.3:8081: where runs tell the strategies signal and push. Empty: the address on which it listens, on loopback if that is any."`
	Push           settings.Push     `embed:""`
	Strategy       string            `name:"strategy" from:"RUNCAST_STRATEGY" placeholder:"RULES" help:"How those who ask for auto follow a workflow: a strategy, rules by workflow type such as 'ProgressiveWorkflow: {redis: 90, update: 10}', or a file with such rules. Empty: redis."`
	MaxViewers     int               `name:"max-viewers" from:"RUNCAST_MAX_VIEWERS" default:"10000" help:"Most open streams of each strategy at a time; beyond that a request is answered 503 at once."`
	MaxUpstreams   int               `name:"max-upstreams" from:"RUNCAST_MAX_UPSTREAMS" default:"${max_upstreams}" help:"Most workflows that each strategy but redis follows at a time, each with calls to Temporal; beyond that a request is answered 503 at once."`
	Drain          time.Duration     `name:"drain" from:"RUNCAST_DRAIN" default:"5s" help:"How long viewers are spread over when they reconnect after this node stops."`
	Redis          settings.Redis    `embed:""`
	Payloads       settings.Payloads `embed:""`
	Log            settings.Log      `embed:""`

	// Linger is how long a workflow is followed after its last viewer; 10 s. It
	// has no flag: operators have no reason to change it, tests do.
	Linger time.Duration `kong:"-"`
}

// Vars are the defaults that are spelled elsewhere.
func (*Config) Vars() map[string]string {
	return map[string]string{
		"task_queue": workflows.TaskQueue, "reply_wait": httpapi.DefaultWait.String(), "max_upstreams": strconv.Itoa(follow.DefaultMax),
	}
}

// Validate reports settings that cannot be, or contradict each other.
func (c *Config) Validate() error {
	if c.MaxBody < 1 || c.MaxBody > 2<<20 {
		return fmt.Errorf("--max-body (RUNCAST_MAX_BODY): %d is not between 1 and 2 MiB, which is the most that Temporal takes", c.MaxBody)
	}
	if c.MaxViewers < 0 {
		return fmt.Errorf("--max-viewers (RUNCAST_MAX_VIEWERS): %d is negative", c.MaxViewers)
	}
	if c.MaxUpstreams < 1 {
		return fmt.Errorf("--max-upstreams (RUNCAST_MAX_UPSTREAMS): %d is not above 0; leave it out for %d", c.MaxUpstreams, follow.DefaultMax)
	}
	if c.Drain < 0 {
		return fmt.Errorf("--drain (RUNCAST_DRAIN): %s is negative", c.Drain)
	}
	if c.TaskQueue == "" {
		return errors.New("--task-queue (RUNCAST_TASK_QUEUE) is empty")
	}
	if c.ReplyWait != 0 && (c.ReplyWait < 2*time.Second || c.ReplyWait > httpapi.MaxWait) {
		return fmt.Errorf("--reply-wait (RUNCAST_REPLY_WAIT): %v is not between 2s and %v, below which Twilio gives up", c.ReplyWait, httpapi.MaxWait)
	}
	if c.AuthToken != "" && c.PublicURL == "" && len(c.TrustedProxies) == 0 {
		return errors.New("TWILIO_AUTH_TOKEN is set, but what Twilio signed cannot be known: set --public-url (RUNCAST_PUBLIC_URL) to the base of the webhooks' URLs, or --trusted-proxies (RUNCAST_TRUSTED_PROXIES)")
	}
	return errors.Join(
		c.checkPush(),
		settings.BaseURL("--callback-url (RUNCAST_CALLBACK_URL)", c.CallbackURL),
		settings.BaseURL("--public-url (RUNCAST_PUBLIC_URL)", c.PublicURL),
		settings.BaseURL("--subscriber-url (RUNCAST_SUBSCRIBER_URL)", c.SubscriberURL),
		settings.BaseURL("--temporal-ui-url (RUNCAST_TEMPORAL_UI_URL)", c.TemporalUIURL),
	)
}

// Run is the program.
func Run(ctx context.Context, args []string, env settings.Env, stdout, stderr io.Writer) error {
	var c Config
	err := settings.Parse("api", "The API service: starts workflows, and says what Temporal knows of them.", &c, args, env, stdout)
	if err != nil {
		return err
	}
	logger := c.Log.Logger(stderr)
	redislog.Use(logger)
	return Serve(ctx, c, env, logger, func(addr string) { logger.Info("api ready", "addr", addr) })
}

// grace bounds how long an orderly stop takes: answers are finished, and
// viewers are told to reconnect elsewhere.
const grace = 5 * time.Second

// Serve runs the service until ctx ends. It calls ready with the address it
// listens on once Temporal has been reached. Temporal does not have to be
// there yet: /readyz says whether it is. Redis is no condition, and /readyz
// does not ask for it: only the note that a run was queued goes there.
func Serve(ctx context.Context, c Config, env settings.Env, logger *slog.Logger, ready func(addr string)) (err error) {
	listener, err := httpserve.Listen(ctx, "--addr (RUNCAST_API_ADDR)", c.Addr)
	if err != nil {
		return err
	}
	defer listener.Close() // where Serve was not reached; it is closed twice otherwise
	store, err := redisstore.Open(ctx, c.Redis.URL, redisstore.Options{Prefix: c.Redis.Prefix, Logger: logger})
	if err != nil {
		return fmt.Errorf("--redis-url (REDIS_URL): %w", err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	options, err := temporalenv.Load(env, c.Payloads, logger)
	if err != nil {
		return err
	}
	starts := reporter.ClientInterceptor(store)
	defer func() {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), notesFor)
		defer cancel()
		starts.Stop(stopCtx)
	}()
	options.Interceptors = append(options.Interceptors, starts)
	registry := prometheus.NewRegistry()
	options.ConnectionOptions.DialOptions = append(options.ConnectionOptions.DialOptions, newTemporalCalls(registry).dialOption())
	temporal, err := client.NewLazyClient(options)
	if err != nil {
		return fmt.Errorf("make the Temporal client: %w", err)
	}
	defer temporal.Close()

	verifier, err := c.verifier()
	if err != nil {
		return err
	}
	registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		statsmetrics.Collector("runcast_store", store.Stats),
		statsmetrics.Collector("runcast_api_queued_notes", starts.Stats),
	)
	push, err := c.push(store.Client(), listener.Addr(), registry)
	if err != nil {
		return err
	}
	defer push.close()
	streams, err := c.strategies(temporal, options, push.receiver, store, registry, logger)
	if err != nil {
		return err
	}
	handler, err := httpapi.New(httpapi.Options{
		DeadLetters:    push.letters,
		CheckPush:      push.check,
		Callback:       push.callback(),
		Temporal:       temporal,
		Types:          types(),
		TaskQueue:      c.TaskQueue,
		Namespace:      options.Namespace,
		UI:             c.TemporalUIURL,
		Subscriber:     c.SubscriberURL,
		AllowedOrigins: c.AllowedOrigins,
		Twilio:         verifier,
		Receipts:       conversation.New(store.Client(), conversation.Options{Prefix: c.Redis.Prefix, KeepMessages: c.KeepMessages}),
		Wait:           c.ReplyWait,
		EmailToken:     c.EmailToken,
		Strategies:     streams.Handler(),
		StrategyHeader: strategies.Header,
		DataConverter:  options.DataConverter,
		MaxBody:        c.MaxBody,
		Registry:       registry,
		Logger:         logger,
	})
	if err != nil {
		return err
	}
	streams.Start()
	readyCtx, stopAsking := context.WithCancel(ctx)
	var asking sync.WaitGroup
	asking.Go(func() {
		if httpserve.AwaitReady(readyCtx, handler) {
			ready(listener.Addr().String())
		}
	})
	defer asking.Wait()
	defer stopAsking()
	err = httpserve.Serve(ctx, listener, httpserve.Options{
		Handler: handler, Logger: logger, WriteTimeout: httpapi.MaxWait + 5*time.Second, Grace: grace, Drain: streams.Stop,
	})
	// Where the listener failed, nobody has stopped them yet.
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	return errors.Join(err, streams.Stop(stopCtx))
}

// verifier checks Twilio's signatures; nil where there is no token.
func (c *Config) verifier() (*twiliohook.Verifier, error) {
	if c.AuthToken == "" {
		return nil, nil
	}
	return twiliohook.NewVerifier(twiliohook.Options{
		AuthToken: c.AuthToken, PublicURL: c.PublicURL, TrustedProxies: c.TrustedProxies,
	})
}

// types are the workflow types that may be started, with what they take.
func types() map[string]httpapi.Type {
	list := make(map[string]httpapi.Type)
	for _, name := range workflows.Names() {
		list[name] = httpapi.Type{}
	}
	list[workflows.ProgressiveName] = httpapi.Type{CheckInput: httpapi.CheckInputAs[workflows.ProgressiveInput]()}
	return list
}
