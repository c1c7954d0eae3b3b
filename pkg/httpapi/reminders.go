package httpapi

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/problem"
)

// Bounds of reminders.
const (
	maxReminders    = 10
	maxHours        = 24
	maxWaitFor      = 7 * 24 * time.Hour
	maxName         = 100
	maxParallel     = 100
	defaultParallel = 10 // reminded at once
)

// remindersTag lists the runs that remind.
const remindersTag = "reminders"

// person is who is reminded, in requests and, masked, in answers.
type person struct {
	// To is a number, "whatsapp:" and a number, or an e-mail address; it says
	// the channel.
	To   string `json:"to"`
	Name string `json:"name,omitempty"`
	// TimeZone is an IANA name; "" is the schedule's, or else the worker's.
	TimeZone string `json:"time_zone,omitempty"`
	// Hours is what a working day owes; 0 is 8.
	Hours float64 `json:"hours,omitempty"`
	// Wait is how long each reminder waits for an answer, such as "90m"; "" is
	// two hours.
	Wait string `json:"wait,omitempty"`
	// Reminders is how many are sent before it is escalated; 0 is two.
	Reminders int `json:"reminders,omitempty"`
	// EscalateTo is told when nobody answers; "" is nobody.
	EscalateTo string `json:"escalate_to,omitempty"`
}

// reminderRequest is the body of POST /v1/reminders.
type reminderRequest struct {
	person
	// ID makes a request that is sent twice one reminder; "" makes one up.
	ID string `json:"id"`
}

// remind starts the reminder of one person and answers at once.
func (a *api) remind(w http.ResponseWriter, r *http.Request) {
	var req reminderRequest
	if !a.readJSON(w, r, &req, `{"to":"+61491570156","name":"Ada","time_zone":"Australia/Sydney"}`) {
		return
	}
	in, err := req.input()
	if err == nil && req.ID != "" {
		if err = checkSID(req.ID); err != nil {
			err = fmt.Errorf(`"id": %w`, err)
		}
	}
	if err != nil {
		problem.Write(w, problem.Problem{Status: http.StatusBadRequest, Detail: err.Error() + "."})
		return
	}
	if req.ID == "" {
		req.ID = strings.ToLower(rand.Text())
	}
	in.StatusCallback = a.callbackBase(r)
	a.startNamed(w, r, "reminder-"+req.ID, message.ReminderWorkflow, remindersTag, in)
}

// callbackBase is where Twilio is to report what becomes of messages, without
// the run, which the run itself adds; "" where that cannot be known.
func (a *api) callbackBase(r *http.Request) string {
	if base, ok := a.publicBase(r); ok {
		return base + statusPath
	}
	return ""
}

// startNamed starts a run under an ID that is used once, and answers where it
// can be followed. The same request again finds the same run.
func (a *api) startNamed(w http.ResponseWriter, r *http.Request, id, workflowType, tag string, in any) {
	ctx, cancel := context.WithTimeout(r.Context(), a.Timeout)
	defer cancel()
	run, err := a.Temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: id, TaskQueue: a.TaskQueue,
		WorkflowIDReusePolicy:                    enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
		WorkflowIDConflictPolicy:                 enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		Memo:                                     map[string]any{TagsMemo: []string{tag}},
	}, workflowType, in)
	if taken := (*serviceerror.WorkflowExecutionAlreadyStarted)(nil); errors.As(err, &taken) {
		a.metrics.started.WithLabelValues(workflowType, "taken").Inc()
		a.accept(w, id, taken.RunId)
		return
	}
	if err != nil {
		a.metrics.started.WithLabelValues(workflowType, "failed").Inc()
		a.temporalError(w, r, err)
		return
	}
	a.metrics.started.WithLabelValues(workflowType, "ok").Inc()
	a.accept(w, id, run.GetRunID())
}

// input checks the person. Its error names the member at fault, and repeats
// no address.
func (p person) input() (message.ReminderInput, error) {
	in := message.ReminderInput{
		Channel: channelOf(p.To), Name: p.Name, TimeZone: p.TimeZone, Hours: p.Hours, Reminders: p.Reminders,
	}
	var err error
	if in.To, err = message.ParseAddress(in.Channel, p.To); err != nil {
		return in, fmt.Errorf(`"to": %w`, err)
	}
	if p.EscalateTo != "" {
		if in.EscalateTo, err = message.ParseAddress(channelOf(p.EscalateTo), p.EscalateTo); err != nil {
			return in, fmt.Errorf(`"escalate_to": %w`, err)
		}
		if channelOf(p.EscalateTo) != in.Channel {
			return in, errors.New(`"escalate_to" is of another channel than "to"`)
		}
	}
	if _, err := zone(p.TimeZone); err != nil {
		return in, err
	}
	if p.Wait != "" {
		if in.Wait, err = time.ParseDuration(p.Wait); err != nil {
			return in, fmt.Errorf(`"wait" is no duration such as "90m"`)
		}
		if in.Wait <= 0 || in.Wait > maxWaitFor {
			return in, fmt.Errorf(`"wait" is not above 0 and at most %v`, maxWaitFor)
		}
	}
	switch {
	case !(p.Hours >= 0 && p.Hours <= maxHours):
		return in, fmt.Errorf(`"hours" is not between 0 and %d`, maxHours)
	case p.Reminders < 0 || p.Reminders > maxReminders:
		return in, fmt.Errorf(`"reminders" is not between 1 and %d`, maxReminders)
	case len(p.Name) > maxName || strings.ContainsFunc(p.Name, func(c rune) bool { return c < ' ' }):
		return in, fmt.Errorf(`"name" is longer than %d bytes, or has control characters`, maxName)
	}
	return in, nil
}

// masked returns a person as an answer shows it.
func masked(in message.ReminderInput) person {
	p := person{To: in.To.String(), Name: in.Name, TimeZone: in.TimeZone, Hours: in.Hours, Reminders: in.Reminders}
	if in.Wait != 0 {
		p.Wait = in.Wait.String()
	}
	if in.EscalateTo != "" {
		p.EscalateTo = in.EscalateTo.String()
	}
	return p
}

// channelOf returns the channel that an address is of.
func channelOf(address string) message.Channel {
	switch {
	case strings.HasPrefix(address, "whatsapp:"):
		return message.ChannelWhatsApp
	case strings.Contains(address, "@"):
		return message.ChannelEmail
	}
	return message.ChannelSMS
}

// zone returns the time zone of a name. "Local" would be the server's.
func zone(name string) (*time.Location, error) {
	if name == "Local" {
		return nil, errors.New(`"time_zone" is no IANA name such as Australia/Sydney`)
	}
	l, err := time.LoadLocation(name)
	if err != nil {
		return nil, errors.New(`"time_zone" is no IANA name such as Australia/Sydney`)
	}
	return l, nil
}
