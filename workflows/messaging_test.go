package workflows_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/runcast/runcast/activities"
	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/agents"
	"github.com/runcast/runcast/pkg/conversation"
	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/reporter"
	"github.com/runcast/runcast/workflows"
)

const (
	ada  = message.Address("+61491570156")
	ours = message.Address("+12025550123")
)

// everyDay owes hours, so that it does not matter when the tests run.
var everyDay = []time.Weekday{
	time.Sunday, time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday, time.Saturday,
}

// office is the messaging application on a worker of the test's own.
type office struct {
	t        *testing.T
	client   client.Client
	progress *redisstore.Store
	store    *conversation.Store
	queue    string
	m        *activities.Messaging
	worker   worker.Worker
	// also registers more with each worker; nil: there is no more.
	also func(worker.Registry)
}

// newOffice starts the application; change, which may be nil, prepares it.
func newOffice(t *testing.T, change func(*office)) *office {
	t.Helper()
	o := &office{t: t, client: testenv.TemporalWith(t, client.Options{Identity: "test"}), queue: testenv.Prefix(t)}
	c := redis.NewClient(&redis.Options{Addr: testenv.Redis(t).Addr})
	t.Cleanup(func() { c.Close() })
	o.progress = redisstore.New(c, redisstore.Options{Prefix: o.queue})
	t.Cleanup(func() { o.progress.Close() })
	o.store = conversation.New(c, conversation.Options{Prefix: o.queue})
	o.m = &activities.Messaging{Store: o.store, Team: agents.Rules(o.store), ShowText: true, SendFor: time.Second, Workdays: everyDay}
	if change != nil {
		change(o)
	}
	o.work()
	t.Cleanup(func() { o.worker.Stop() })
	return o
}

// work starts a worker.
func (o *office) work() {
	o.t.Helper()
	o.worker = worker.New(o.client, o.queue, worker.Options{
		Plugins: []worker.Plugin{reporter.New(o.client, o.progress)}, WorkerStopTimeout: 100 * time.Millisecond,
	})
	workflows.Register(o.worker, workflows.Deps{Messaging: o.m})
	if o.also != nil {
		o.also(o.worker)
	}
	if err := o.worker.Start(); err != nil {
		o.t.Fatal(err)
	}
}

func (o *office) start(name string, id string, in any) client.WorkflowRun {
	o.t.Helper()
	run, err := o.client.ExecuteWorkflow(o.t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: o.queue}, name, in)
	if err != nil {
		o.t.Fatal(err)
	}
	return run
}

// inbound is an SMS from ada.
func (o *office) inbound(text string) message.ConversationInput {
	return message.ConversationInput{Message: message.Inbound{
		Channel: message.ChannelSMS, SID: "SM" + testenv.Prefix(o.t), From: ada, To: ours, Text: text, ReceivedAt: time.Now().UTC(),
	}}
}

func (o *office) converse(in message.ConversationInput) client.WorkflowRun {
	return o.start(message.ConversationWorkflow, message.ConversationID(in.Message.Channel, in.Message.SID), in)
}

// ask has a message answered and returns the result.
func (o *office) ask(text string) message.ConversationResult {
	o.t.Helper()
	var result message.ConversationResult
	if err := o.get(o.converse(o.inbound(text)), &result); err != nil {
		o.t.Fatal(err)
	}
	return result
}

func (o *office) get(run client.WorkflowRun, result any) error {
	ctx, cancel := context.WithTimeout(o.t.Context(), 40*time.Second)
	defer cancel()
	return run.Get(ctx, result)
}

// sent returns what ada was sent.
func (o *office) sent() []string {
	o.t.Helper()
	list, err := o.store.Outbox().Messages(o.t.Context(), "")
	if err != nil {
		o.t.Fatal(err)
	}
	var texts []string
	for _, out := range list {
		if out.To != ada {
			o.t.Errorf("a message went to %s", out.To)
		}
		texts = append(texts, out.Text)
	}
	return texts
}

// events returns the run's events once its chain is closed.
func (o *office) events(id string) []progress.Event {
	o.t.Helper()
	var events []progress.Event
	eventually(o.t, "closed chain", func() bool {
		view, err := o.progress.Read(o.t.Context(), id, 1, 10_000)
		if err != nil {
			return false
		}
		events = nil
		for _, raw := range view.Events {
			e, err := progress.DecodeEvent(raw.Data)
			if err != nil {
				o.t.Fatal(err)
			}
			events = append(events, e)
		}
		return view.Snapshot.Closed()
	})
	return events
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(40 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("there is no %s", what)
		}
	}
}

// carrier is a carrier under the test's control: it keeps what it took.
type carrier struct {
	mu    sync.Mutex
	taken []message.Outgoing
	// before and after, if not nil, are called around taking a message; an
	// error of before means that it is not taken.
	before, after func(n int) error
	status        message.Status
	attempts      int
}

func (c *carrier) Send(ctx context.Context, out message.Outgoing) (message.Receipt, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts++
	if c.before != nil {
		if err := c.before(c.attempts); err != nil {
			return message.Receipt{}, err
		}
	}
	c.taken = append(c.taken, out)
	if c.after != nil {
		if err := c.after(c.attempts); err != nil {
			return message.Receipt{}, err
		}
	}
	return c.receipt(len(c.taken)), ctx.Err()
}

func (c *carrier) receipt(n int) message.Receipt {
	status := c.status
	if status == "" {
		status = message.StatusDelivered
	}
	return message.Receipt{SID: c.taken[n-1].Key, Status: status}
}

func (c *carrier) Find(_ context.Context, out message.Outgoing, _ time.Time) ([]message.Receipt, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []message.Receipt
	for i, t := range c.taken {
		if t.To == out.To && t.Text == out.Text {
			found = append(found, c.receipt(i+1))
		}
	}
	return found, nil
}

func (c *carrier) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.taken)
}

func errClass(class error, code int) error { return &message.Error{Class: class, Code: code} }

func hasText(events []progress.Event, text string) bool {
	for _, e := range events {
		body, err := e.AppendBody(nil)
		if err == nil && strings.Contains(string(body), text) {
			return true
		}
	}
	return false
}
