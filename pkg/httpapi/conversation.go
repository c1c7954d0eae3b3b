package httpapi

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/problem"
)

// converse starts the conversation of a message, or finds the one that the
// same message started before (again), open or closed, and returns its run.
func (a *api) converse(ctx context.Context, in message.ConversationInput) (runID string, again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	run, err := a.Temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:        message.ConversationID(in.Message.Channel, in.Message.SID),
		TaskQueue: a.TaskQueue,
		// One message, one run: also when it comes again after its run has
		// closed.
		WorkflowIDReusePolicy:                    enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
		WorkflowIDConflictPolicy:                 enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		Memo:                                     map[string]any{TagsMemo: []string{"messages"}},
	}, message.ConversationWorkflow, in)
	if taken := (*serviceerror.WorkflowExecutionAlreadyStarted)(nil); errors.As(err, &taken) {
		a.metrics.started.WithLabelValues(message.ConversationWorkflow, "taken").Inc()
		return taken.RunId, true, nil
	}
	if err != nil {
		a.metrics.started.WithLabelValues(message.ConversationWorkflow, "failed").Inc()
		return "", false, err
	}
	a.metrics.started.WithLabelValues(message.ConversationWorkflow, "ok").Inc()
	return run.GetRunID(), false, nil
}

// pageNumber is the sender of a message that names none: a number that is
// kept for fiction.
const pageNumber = "+12025550123"

// maxText is the most characters of a message, as Twilio's.
const maxText = 1600

// typedMessage is the body of POST /v1/messages.
type typedMessage struct {
	// From is who writes; "" is somebody who does not exist.
	From string `json:"from"`
	Text string `json:"text"`
	// ID makes a request that is sent twice one message; "" makes one up.
	ID string `json:"id"`
}

// typed takes a message from the page or the terminal, as if it had come by
// SMS. Its reply goes where such replies go, and to no telephone.
func (a *api) typed(w http.ResponseWriter, r *http.Request) {
	var req typedMessage
	if !a.readJSON(w, r, &req, `{"from":"+61491570156","text":"log 8h on apollo"}`) {
		return
	}
	if req.From == "" {
		req.From = pageNumber
	}
	if req.ID == "" {
		req.ID = strings.ToLower(rand.Text())
	}
	from, err := message.ParseAddress(message.ChannelPage, req.From)
	switch n := utf8.RuneCountInString(req.Text); {
	case err != nil:
		err = fmt.Errorf(`"from": %w`, err)
	case strings.TrimSpace(req.Text) == "":
		err = errors.New(`"text" is missing: what the message says`)
	case n > maxText:
		err = fmt.Errorf(`"text" has %d characters; %d are allowed`, n, maxText)
	default:
		if err = checkSID(req.ID); err != nil {
			err = fmt.Errorf(`"id": %w`, err)
		}
	}
	if err != nil {
		problem.Write(w, problem.Problem{Status: http.StatusBadRequest, Detail: err.Error() + "."})
		return
	}
	in := message.Inbound{
		Channel: message.ChannelPage, SID: req.ID, From: from, To: pageNumber, Text: req.Text,
		ReceivedAt: time.Now().UTC().Truncate(time.Microsecond),
	}
	run, _, err := a.converse(r.Context(), message.ConversationInput{Message: in})
	if err != nil {
		a.temporalError(w, r, err)
		return
	}
	a.accept(w, message.ConversationID(in.Channel, in.SID), run)
}

// maxSID bounds the names that callers give to messages.
const maxSID = 200

// checkSID reports a name that should not become part of a workflow ID.
func checkSID(id string) error {
	if len(id) > maxSID || strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return fmt.Errorf("it has %d bytes; up to %d printable ASCII characters without spaces are allowed", len(id), maxSID)
	}
	return nil
}

// accept answers that a run goes on, and where.
func (a *api) accept(w http.ResponseWriter, id, run string) {
	w.Header().Set("Location", workflowPath(id))
	writeJSON(w, http.StatusAccepted, started{WorkflowID: id, RunID: run, Stream: a.streamURL(id, run)})
}
