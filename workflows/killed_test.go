package workflows_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
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
	"github.com/runcast/runcast/workflows"
)

// mortal makes the test binary a worker that dies right after its first send:
// "TEMPORAL REDIS QUEUE".
const mortal = "RUNCAST_TEST_MORTAL_WORKER"

// runMortal works until it dies.
func runMortal(text string) error {
	f := strings.Fields(text)
	c, err := client.Dial(client.Options{HostPort: f[0]})
	if err != nil {
		return err
	}
	store := conversation.New(redis.NewClient(&redis.Options{Addr: f[1]}), conversation.Options{Prefix: f[2]})
	w := worker.New(c, f[2], worker.Options{})
	workflows.Register(w, workflows.Deps{Messaging: &activities.Messaging{Store: store, Team: agents.Rules(store), Carrier: deadly{store.Outbox()}}})
	return w.Run(worker.InterruptCh())
}

// deadly sends, and then nothing ever again.
type deadly struct{ *conversation.Outbox }

func (d deadly) Send(ctx context.Context, out message.Outgoing) (message.Receipt, error) {
	if _, err := d.Outbox.Send(ctx, out); err != nil {
		return message.Receipt{}, err
	}
	return message.Receipt{}, syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

// A worker that is killed between the send and its record: another one finds
// the message, and the sender gets one reply.
func TestWorkerIsKilledBetweenSendAndRecord(t *testing.T) {
	addr, redisAddr, queue := testenv.TemporalAddress(t), testenv.Redis(t).Addr, testenv.Prefix(t)
	child := exec.Command(os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s", mortal, addr, redisAddr, queue))
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	died := make(chan error, 1)
	go func() { died <- child.Wait() }()
	t.Cleanup(func() { child.Process.Kill() })

	o := &office{t: t, client: testenv.TemporalWith(t, client.Options{Identity: "test"}), queue: queue}
	run := o.converse(o.inbound("hello"))
	select {
	case err := <-died:
		if err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("the worker ended otherwise: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the worker did not send")
	}
	o = newOffice(t, func(o *office) {
		o.queue = queue
		c := redis.NewClient(&redis.Options{Addr: redisAddr})
		t.Cleanup(func() { c.Close() })
		o.store = conversation.New(c, conversation.Options{Prefix: queue})
		o.m.Store, o.m.Team, o.m.Carrier = o.store, agents.Rules(o.store), o.store.Outbox()
	})
	var result message.ConversationResult
	if err := o.get(run, &result); err != nil {
		t.Fatal(err)
	}
	if got := o.sent(); len(got) != 1 || !result.Sent || got[0] != result.Reply {
		t.Errorf("%+v, sent %q", result, got)
	}
}
