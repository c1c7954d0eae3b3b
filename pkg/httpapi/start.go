package httpapi

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"context"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/problem"
	"github.com/runcast/runcast/pkg/progress"
)

// TagsMemo is the memo under which a run carries its tags.
const TagsMemo = "runcast.tags"

// Bounds of the tags of one start. A tag is part of a key's name.
const (
	maxTags     = 32
	maxTagBytes = 256
)

// startRequest is the body of POST /v1/workflows.
type startRequest struct {
	// Type is the workflow type.
	Type string `json:"type"`
	// ID is the workflow ID; "" makes one up.
	ID string `json:"id"`
	// Input is the workflow's only argument; absent or null is none.
	Input json.RawMessage `json:"input"`
	// Tags are topics under which the run is listed.
	Tags []string `json:"tags"`
	// Push are URLs to which the run sends its states, by signed webhooks.
	Push []string `json:"push"`
}

// started is the answer: where to go on.
type started struct {
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"`
	// Stream is where the run can be followed.
	Stream string `json:"stream"`
}

func (a *api) start(w http.ResponseWriter, r *http.Request) {
	req, ok := a.readStart(w, r)
	if !ok {
		return
	}
	if req.ID == "" {
		req.ID = strings.ToLower(req.Type + "-" + rand.Text()[:12])
	}
	if p := a.checkStart(req); p != nil {
		problem.Write(w, *p)
		return
	}
	run, err := a.execute(r.Context(), req)
	if taken := (*serviceerror.WorkflowExecutionAlreadyStarted)(nil); errors.As(err, &taken) {
		a.metrics.started.WithLabelValues(req.Type, "taken").Inc()
		problem.Write(w, problem.Problem{
			Status: http.StatusConflict,
			Detail: fmt.Sprintf("A run with the workflow ID %q is open. Follow it, wait for its end, or start under another ID.", req.ID),
			Extra:  map[string]any{"workflow_id": req.ID, "run_id": taken.RunId, "stream": a.streamURL(req.ID, "")},
		})
		return
	}
	if err != nil {
		a.metrics.started.WithLabelValues(req.Type, "failed").Inc()
		a.temporalError(w, r, err)
		return
	}
	a.metrics.started.WithLabelValues(req.Type, "ok").Inc()
	a.accept(w, req.ID, run.GetRunID())
}

// readStart reads the body, or answers what is wrong with it.
func (a *api) readStart(w http.ResponseWriter, r *http.Request) (startRequest, bool) {
	var req startRequest
	if !a.readJSON(w, r, &req, `{"type":"…","id":"…","input":{…},"tags":["…"],"push":["https://…"]}`) {
		return req, false
	}
	if bytes.Equal(req.Input, []byte("null")) {
		req.Input = nil
	}
	return req, true
}

// readJSON reads the body into v, or answers what is wrong with it; example
// is what it should look like.
func (a *api) readJSON(w http.ResponseWriter, r *http.Request, v any, example string) bool {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		w.Header().Set("Accept-Post", "application/json")
		problem.Write(w, problem.Problem{
			Status: http.StatusUnsupportedMediaType,
			Detail: "Send JSON, with the header Content-Type: application/json.",
		})
		return false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, a.MaxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		problem.Write(w, problem.Problem{
			Status: http.StatusRequestEntityTooLarge,
			Detail: fmt.Sprintf("The body is longer than %d bytes. Keep large input elsewhere and send a reference to it.", tooLarge.Limit),
		})
		return false
	}
	if err == nil {
		err = decodeStrict(body, v)
	}
	if err != nil {
		problem.Write(w, problem.Problem{
			Status: http.StatusBadRequest,
			Detail: fmt.Sprintf(`The body cannot be read: %v. It looks like %s.`, err, example),
		})
		return false
	}
	return true
}

// decodeStrict reads one JSON value and refuses members that v does not have
// and anything that follows: a misspelt member is not a default.
func decodeStrict(data []byte, v any) error {
	if !utf8.Valid(data) {
		return errors.New("it is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); errors.Is(err, io.EOF) {
		return errors.New("it is empty")
	} else if err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON value")
	}
	return nil
}

// CheckInputAs returns a check for input that is read into a T: members that
// T does not have and values of another type are refused.
func CheckInputAs[T any]() func([]byte) error {
	return func(input []byte) error {
		if input == nil {
			return nil
		}
		var v T
		return decodeStrict(input, &v)
	}
}

// checkStart returns what is wrong with the request, or nil.
func (a *api) checkStart(req startRequest) *problem.Problem {
	bad := func(format string, args ...any) *problem.Problem {
		return &problem.Problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf(format, args...)}
	}
	if req.Type == "" {
		return &problem.Problem{
			Status: http.StatusBadRequest, Detail: `"type" is missing: the workflow type to start.`,
			Extra: map[string]any{"known": a.known},
		}
	}
	known, ok := a.Types[req.Type]
	if !ok {
		return &problem.Problem{
			Status: http.StatusNotFound,
			Detail: fmt.Sprintf("There is no workflow type %q; the known ones are %s.", clip(req.Type), strings.Join(a.known, ", ")),
			Extra:  map[string]any{"known": a.known},
		}
	}
	if err := progress.CheckWorkflowID(req.ID); err != nil {
		return bad(`"id": %v.`, err)
	}
	if req.ID == "." || req.ID == ".." {
		// Browsers take them, and their escaped forms, for directories.
		return bad(`"id" is %q, which no URL can name: nobody could follow the run. Choose another.`, req.ID)
	}
	if len(req.Tags) > maxTags {
		return bad(`"tags" has %d entries; %d are allowed.`, len(req.Tags), maxTags)
	}
	for _, tag := range req.Tags {
		if tag == "" || len(tag) > maxTagBytes {
			return bad(`"tags" has an entry of %d bytes; 1 to %d are allowed.`, len(tag), maxTagBytes)
		}
	}
	if p := a.checkPush(req.Push); p != nil {
		return p
	}
	if known.CheckInput != nil {
		if err := known.CheckInput(req.Input); err != nil {
			return bad(`"input" is nothing that %s takes: %v.`, req.Type, err)
		}
	}
	return nil
}

func (a *api) execute(ctx context.Context, req startRequest) (client.WorkflowRun, error) {
	ctx, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	o := client.StartWorkflowOptions{
		ID:        req.ID,
		TaskQueue: a.TaskQueue,
		// An ID may be used again once its chain has ended: its stream goes on.
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		// Without it the SDK would return the open run as if it were ours.
		WorkflowExecutionErrorWhenAlreadyStarted: true,
	}
	memo := make(map[string]any)
	if len(req.Tags) > 0 {
		memo[TagsMemo] = req.Tags
	}
	if len(req.Push) > 0 {
		memo[handlers.PushMemo] = req.Push
	}
	if len(memo) > 0 {
		o.Memo = memo
	}
	if req.Input == nil {
		return a.Temporal.ExecuteWorkflow(ctx, o, req.Type)
	}
	return a.Temporal.ExecuteWorkflow(ctx, o, req.Type, req.Input)
}

// streamURL is where a workflow is followed. With a run, the stream waits for
// that run, so that its viewer does not get its predecessor's end.
func (a *api) streamURL(id, run string) string {
	u := a.Subscriber + workflowPath(id) + "/stream"
	if run != "" {
		u += "?run=" + url.QueryEscape(run)
	}
	return u
}

func workflowPath(id string) string { return "/v1/workflows/" + url.PathEscape(id) }

// clip bounds what of a stranger's text is said back.
func clip(text string) string {
	const most = 100
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil { // a bug: the answers are plain structs
		problem.Write(w, problem.Problem{})
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // the client is gone if it fails
}
