// Command webhooks measures what a webhook of Twilio costs above a bare start
// of a workflow: it serves the API on loopback and tells as JSON how long
// starts and signed requests took, in turn one by one, and many requests at
// once. The runner (bench/run) starts it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"

	"github.com/runcast/runcast/bench/internal/latency"
	"github.com/runcast/runcast/bench/internal/viewers"
	"github.com/runcast/runcast/pkg/httpapi"
	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/reporter"
	"github.com/runcast/runcast/pkg/twiliohook"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "webhooks:", err)
		os.Exit(2)
	}
}

// Result is what was found.
type Result struct {
	// Bare is a start by Temporal's client, Webhook a signed request and its
	// answer; in turn, one by one.
	Bare    latency.Summary `json:"bare"`
	Webhook latency.Summary `json:"webhook"`
	// AboveMS is by how much the median of the second is above the first's.
	AboveMS float64 `json:"above_ms"`
	// BareAtOnce are bare starts of Concurrent clients, AtOnce requests of as
	// many.
	BareAtOnce latency.Summary `json:"bare_at_once"`
	AtOnce     latency.Summary `json:"at_once"`
	Concurrent int             `json:"concurrent"`
	Failed     int             `json:"failed"`
}

// taskQueue is one that nobody takes from: what counts is the start.
const taskQueue = "bench-webhooks"

func run(ctx context.Context, args []string, stdout io.Writer) error {
	f := flag.NewFlagSet("webhooks", flag.ContinueOnError)
	addr := f.String("redis", "127.0.0.1:6379", "`address` of Redis, of this machine's loopback")
	server := f.String("temporal", "127.0.0.1:7233", "`address` of the Temporal server, of this machine's loopback")
	pairs := f.Int("pairs", 500, "starts and requests in turn")
	concurrent := f.Int("concurrent", 100, "clients at once")
	each := f.Int("each", 10, "requests of each of them")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if _, err := viewers.Loopback(*addr); err != nil {
		return err
	}
	if *pairs < 1 || *concurrent < 1 || *each < 1 {
		return errors.New("out of bounds: at least one of each")
	}
	if _, err := viewers.Loopback(*server); err != nil {
		return err
	}
	store, err := redisstore.Open(ctx, "redis://"+*addr, redisstore.Options{})
	if err != nil {
		return err
	}
	defer store.Close()
	o := client.Options{HostPort: *server, Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler))}
	bare, err := client.DialContext(ctx, o)
	if err != nil {
		return err
	}
	defer bare.Close()
	// As the API service makes its client.
	starts := reporter.ClientInterceptor(store)
	defer starts.Stop(ctx)
	o.Interceptors = []interceptor.ClientInterceptor{starts}
	temporal, err := client.DialContext(ctx, o)
	if err != nil {
		return err
	}
	defer temporal.Close()
	api, err := serve(temporal, starts)
	if err != nil {
		return err
	}
	defer api.Close()

	r := Result{Concurrent: *concurrent}
	if err := inTurn(ctx, bare, api, *pairs, &r); err != nil {
		return err
	}
	atOnce(ctx, bare, api, *each, &r)
	return json.NewEncoder(stdout).Encode(r)
}

// api is the service under test and how it is called.
type api struct {
	*httptest.Server
	client *http.Client
	starts *reporter.Starts
}

func serve(temporal client.Client, starts *reporter.Starts) (*api, error) {
	verifier, err := twiliohook.NewVerifier(twiliohook.Options{AuthToken: token, PublicURL: publicURL})
	if err != nil {
		return nil, err
	}
	handler, err := httpapi.New(httpapi.Options{
		Temporal: temporal, TaskQueue: taskQueue, Twilio: verifier,
		Types: map[string]httpapi.Type{message.ConversationWorkflow: {}},
	})
	if err != nil {
		return nil, err
	}
	s := httptest.NewServer(handler)
	return &api{s, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1000}}, starts}, nil
}

func (a *api) Close() {
	a.client.CloseIdleConnections()
	a.Server.Close()
}

// inTurn makes starts and requests in turn, so that what slows the machine
// down slows both.
func inTurn(ctx context.Context, bare client.Client, a *api, pairs int, r *Result) error {
	var starts, hooks latency.Histogram
	const warm = 20
	for n := range pairs + warm {
		form := newForm()
		sid := newSID()
		begin := time.Now()
		if err := start(ctx, bare, sid, form); err != nil {
			return err
		}
		middle := time.Now()
		if err := a.hook(ctx, form); err != nil {
			return err
		}
		if n >= warm {
			starts.Add(middle.Sub(begin))
			hooks.Add(time.Since(middle))
		}
		// The answer does not wait for the note that the run is queued, and the
		// next bare start should not suffer from it.
		a.starts.Stop(ctx)
	}
	r.Bare, r.Webhook = starts.Summary(), hooks.Summary()
	r.AboveMS = r.Webhook.P50 - r.Bare.P50
	return nil
}

// atOnce lets many clients make bare starts, and then as many requests.
func atOnce(ctx context.Context, bare client.Client, a *api, each int, r *Result) {
	starts, _ := clients(r.Concurrent, each, func() error { return start(ctx, bare, newSID(), newForm()) })
	r.BareAtOnce = starts.Summary()
	hooks, failed := clients(r.Concurrent, each, func() error { return a.hook(ctx, newForm()) })
	r.AtOnce, r.Failed = hooks.Summary(), failed
}

// clients lets many clients call at once, each as often, and returns how long
// the calls took and how many failed.
func clients(many, each int, call func() error) (took latency.Histogram, failed int) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for range many {
		all.Go(func() {
			for range each {
				begin := time.Now()
				err := call()
				d := time.Since(begin)
				mu.Lock()
				took.Add(d)
				if err != nil {
					failed++
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return took, failed
}

// start makes a bare start, of what the form of a webhook would start.
func start(ctx context.Context, bare client.Client, sid string, form url.Values) error {
	in := message.ConversationInput{Message: message.Inbound{
		Channel: message.ChannelSMS, SID: sid, From: "+61491570156", To: "+15005550006", Text: form.Get("Body"), ReceivedAt: time.Now(),
	}}
	_, err := bare.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: message.ConversationID(message.ChannelSMS, in.Message.SID), TaskQueue: taskQueue,
	}, message.ConversationWorkflow, in)
	return err
}
