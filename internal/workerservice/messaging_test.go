package workerservice

import (
	"bytes"
	"context"
	"encoding/base64"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/conversation"
	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/payloadcodec"
	"github.com/runcast/runcast/pkg/redisstore"
)

// The program answers a message, and with keys Temporal keeps nothing of it
// that can be read.
func TestServeAnswersMessages(t *testing.T) {
	keys := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	codec, err := payloadcodec.New(keys)
	if err != nil {
		t.Fatal(err)
	}
	server, prefix := testenv.Redis(t), testenv.Prefix(t)
	ctx, stop := context.WithCancel(t.Context())
	addr := make(chan string, 1)
	ended := make(chan error, 1)
	var c Config
	args := []string{"--addr", "127.0.0.1:0", "--task-queue", prefix, "--redis-url", server.URL(), "--key-prefix", prefix, "--payload-keys", keys}
	if err := settings.Parse("worker", "", &c, args, nil, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	env := settings.Env{"TEMPORAL_ADDRESS": testenv.TemporalAddress(t)}
	go func() { ended <- Serve(ctx, c, env, slog.New(slog.DiscardHandler), func(a string) { addr <- a }) }()
	<-addr

	temporal := testenv.TemporalWith(t, client.Options{DataConverter: codec.Converter(), FailureConverter: codec.Failures()})
	run, err := temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: prefix, TaskQueue: prefix, Memo: map[string]any{"runcast.tags": []string{"messages"}},
	}, message.ConversationWorkflow,
		message.ConversationInput{Message: message.Inbound{
			Channel: message.ChannelPage, SID: "1", From: "+61491570156", To: "+12025550123", Text: "log 8h on sesame", ReceivedAt: time.Now().UTC(),
		}})
	if err != nil {
		t.Fatal(err)
	}
	var result message.ConversationResult
	if err := run.Get(ctx, &result); err != nil || result.Reply != "Recorded 8 h on sesame today." || !result.Sent {
		t.Errorf("%+v, %v", result, err)
	}
	history := temporal.GetWorkflowHistory(ctx, run.GetID(), run.GetRunID(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		e, err := history.Next()
		if err != nil {
			t.Fatal(err)
		}
		if text := e.String(); strings.Contains(text, "sesame") || strings.Contains(text, "61491570156") {
			t.Errorf("Temporal keeps it in the clear: %s", text)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("it did not stop in order: %v", err)
	}
	store, err := redisstore.Open(t.Context(), server.URL(), redisstore.Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if snap, err := store.Snapshot(t.Context(), prefix); err != nil || !slices.Equal(snap.Tags, []string{"messages"}) {
		t.Errorf("the tags in the memo are not read: %+v, %v", snap, err)
	}
	redis := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer redis.Close()
	sent, err := conversation.New(redis, conversation.Options{Prefix: prefix}).Outbox().Messages(t.Context(), "+61491570156")
	if err != nil || len(sent) != 1 || sent[0].Text != result.Reply {
		t.Errorf("outbox = %v, %v", sent, err)
	}
}
