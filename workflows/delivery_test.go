package workflows_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.temporal.io/sdk/interceptor"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

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

// A run waits a minute, which is skipped here, for what becomes of its
// message. Where nothing is heard, it ends all the same, and its stream says
// that it waited in vain.
func TestDeliveryStatusIsAwaited(t *testing.T) {
	for _, tt := range []struct {
		name string
		// after is when the carrier reports, 0 never.
		after time.Duration
		want  message.Status
		step  progress.Status
		took  time.Duration
	}{
		{"never", 0, message.StatusQueued, progress.StatusTimedOut, time.Minute},
		{"in time", 59 * time.Second, message.StatusDelivered, progress.StatusCompleted, 59 * time.Second},
		{"too late", 61 * time.Second, message.StatusQueued, progress.StatusTimedOut, time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := redis.NewClient(&redis.Options{Addr: testenv.Redis(t).Addr})
			defer c.Close()
			prefix := testenv.Prefix(t)
			store, shown := conversation.New(c, conversation.Options{Prefix: prefix}), redisstore.New(c, redisstore.Options{Prefix: prefix})
			defer shown.Close()
			plugin := reporter.New(nil, shown)
			defer plugin.Stop(context.WithoutCancel(t.Context()))
			carrier := &carrier{status: message.StatusQueued}

			var suite testsuite.WorkflowTestSuite
			suite.SetLogger(sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)))
			env := suite.NewTestWorkflowEnvironment()
			env.SetWorkerOptions(worker.Options{Interceptors: []interceptor.WorkerInterceptor{plugin.WorkerInterceptor()}})
			env.RegisterWorkflowWithOptions(workflows.MultiAgentConversationWorkflow, workflow.RegisterOptions{Name: message.ConversationWorkflow})
			env.RegisterActivity(&activities.Messaging{Store: store, Team: agents.Rules(store), Carrier: carrier})
			if tt.after > 0 {
				env.RegisterDelayedCallback(func() {
					if !env.IsWorkflowCompleted() {
						env.SignalWorkflow(message.StatusSignal, message.Receipt{SID: carrier.receipt(1).SID, Status: message.StatusDelivered})
					}
				}, tt.after)
			}
			begin := env.Now()
			env.ExecuteWorkflow(message.ConversationWorkflow, message.ConversationInput{
				Message:        message.Inbound{Channel: message.ChannelSMS, SID: "SM1", From: ada, To: ours, Text: "hello", ReceivedAt: time.Now()},
				StatusCallback: "http://api.example/webhooks/twilio/status",
			})
			var result message.ConversationResult
			if err := env.GetWorkflowResult(&result); err != nil || !result.Sent || result.Receipt.Status != tt.want || carrier.count() != 1 {
				t.Fatalf("%+v, %v, %d messages", result, err, carrier.count())
			}
			if took := env.Now().Sub(begin).Round(time.Second); took != tt.took {
				t.Errorf("it took %v, want %v", took, tt.took)
			}
			// What it knows is kept, for those who come later.
			if kept, err := store.Receipt(t.Context(), result.Receipt.SID); err != nil || kept != result.Receipt {
				t.Errorf("kept is %+v, %v", kept, err)
			}
			eventually(t, "end of the delivery in the stream", func() bool {
				snap, err := shown.Snapshot(t.Context(), "default-test-workflow-id")
				return err == nil && slices.ContainsFunc(snap.Steps, func(s progress.Step) bool {
					return s.Name == workflows.DeliveryStep && s.Status == tt.step
				})
			})
		})
	}
}
