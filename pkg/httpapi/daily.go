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
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/problem"
)

// dailyRequest is the body of POST /v1/reminders/daily.
type dailyRequest struct {
	plan
	// ID names the schedule; "" makes one up.
	ID    string   `json:"id"`
	Users []person `json:"users"`
	// Parallel is how many are reminded at once; 0 is 10.
	Parallel int    `json:"parallel"`
	Paused   bool   `json:"paused"`
	Note     string `json:"note"`
}

// scheduled is what an answer says of a schedule.
type scheduled struct {
	ID string `json:"id"`
	plan
	Paused bool   `json:"paused"`
	Note   string `json:"note,omitempty"`
	// Next are the next times.
	Next []time.Time `json:"next"`
	// Recent are the last runs, the newest last.
	Recent []scheduledRun `json:"recent"`
	// Stream is where all its runs are followed.
	Stream string `json:"stream"`
	// Users, masked, and Parallel are told of one schedule, not in a list.
	Users    []person `json:"users,omitempty"`
	Parallel int      `json:"parallel,omitempty"`
}

type scheduledRun struct {
	At time.Time `json:"at"`
	started
}

const (
	// dailyPrefix is in front of the IDs of schedules and of their runs.
	dailyPrefix = "daily-"
	// maxListed bounds a list of schedules.
	maxListed = 500
	// catchUp is how late a reminder may still be made after Temporal was
	// away: one of the morning is of no use at night.
	catchUp = time.Hour
)

const dailyExample = `{"id":"sydney","time_zone":"Australia/Sydney","times":["17:00"],"users":[{"to":"+61491570156","name":"Ada"}]}`

// remindDaily makes a schedule of daily reminders; without times, it reminds
// once, at once.
func (a *api) remindDaily(w http.ResponseWriter, r *http.Request) {
	var req dailyRequest
	if !a.readJSON(w, r, &req, dailyExample) {
		return
	}
	in, spec, err := req.check()
	if err != nil {
		problem.Write(w, problem.Problem{Status: http.StatusBadRequest, Detail: err.Error() + "."})
		return
	}
	for i := range in.Users {
		in.Users[i].StatusCallback = a.callbackBase(r)
	}
	if req.ID == "" {
		req.ID = strings.ToLower(rand.Text()[:12])
	}
	id := dailyPrefix + req.ID
	if len(req.Times) == 0 {
		a.startNamed(w, r, id, message.DailyWorkflow, id, in)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.Timeout)
	defer cancel()
	_, err = a.Temporal.ScheduleClient().Create(ctx, client.ScheduleOptions{
		ID: id, Spec: spec, Paused: req.Paused, Note: req.Note, CatchupWindow: catchUp,
		// One that is still at it reminds the same people.
		Overlap: enumspb.SCHEDULE_OVERLAP_POLICY_SKIP,
		Action: &client.ScheduleWorkflowAction{
			ID: id, Workflow: message.DailyWorkflow, Args: []any{in}, TaskQueue: a.TaskQueue,
			Memo: map[string]any{TagsMemo: []string{id}},
		},
	})
	if errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
		problem.Write(w, problem.Problem{
			Status: http.StatusConflict,
			Detail: fmt.Sprintf("There is a schedule %q. Change it with PATCH, or take another ID.", req.ID),
		})
		return
	}
	if err != nil {
		a.temporalError(w, r, err)
		return
	}
	w.Header().Set("Location", "/v1/reminders/daily/"+req.ID)
	a.answerSchedule(w, r, http.StatusCreated, id)
}

// check returns what the request asks for. Its error names the member at
// fault.
func (req *dailyRequest) check() (message.DailyInput, client.ScheduleSpec, error) {
	var spec client.ScheduleSpec
	in, err := dailyInput(req.Users, req.Parallel, req.TimeZone)
	if err == nil && len(req.Times) > 0 {
		spec, err = req.spec()
	}
	if err == nil && len(req.Times) == 0 && (req.Paused || req.Days != nil) {
		err = errors.New(`"times" is missing; without it people are reminded once, at once, and there is nothing to pause and no day to choose`)
	}
	if err == nil {
		err = checkScheduleID(req.ID)
	}
	if err == nil && len(req.Note) > maxName {
		err = fmt.Errorf(`"note" is longer than %d bytes`, maxName)
	}
	return in, spec, err
}

// dailyInput checks who is reminded. Its error names the member at fault.
func dailyInput(users []person, parallel int, timeZone string) (message.DailyInput, error) {
	in := message.DailyInput{Parallel: parallel}
	if parallel < 0 || parallel > maxParallel {
		return in, fmt.Errorf(`"parallel" is not between 1 and %d`, maxParallel)
	}
	if parallel == 0 {
		in.Parallel = defaultParallel
	}
	if len(users) == 0 {
		return in, errors.New(`"users" is missing: who is reminded`)
	}
	if _, err := zone(timeZone); err != nil {
		return in, err
	}
	for i, p := range users {
		if p.TimeZone == "" {
			p.TimeZone = timeZone
		}
		user, err := p.input()
		if err != nil {
			return in, fmt.Errorf(`"users", entry %d: %w`, i+1, err)
		}
		in.Users = append(in.Users, user)
	}
	return in, nil
}

// checkScheduleID reports a name that needs encoding in a path or a tag.
func checkScheduleID(id string) error {
	if len(id) > maxName || strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" {
		return fmt.Errorf(`"id" has up to %d letters, digits, hyphens, underscores and dots`, maxName)
	}
	return nil
}

// listDaily lists the schedules, without who is reminded.
func (a *api) listDaily(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), a.Timeout)
	defer cancel()
	entries, err := a.Temporal.ScheduleClient().List(ctx, client.ScheduleListOptions{PageSize: maxListed})
	list := []scheduled{}
	for err == nil && entries.HasNext() && len(list) < maxListed {
		var e *client.ScheduleListEntry
		if e, err = entries.Next(); err != nil {
			break
		}
		if e.WorkflowType.Name != message.DailyWorkflow || !strings.HasPrefix(e.ID, dailyPrefix) {
			continue // somebody else's
		}
		s := a.scheduledOf(e.ID, e.Spec, e.NextActionTimes, e.RecentActions)
		s.Paused, s.Note = e.Paused, e.Note
		list = append(list, s)
	}
	if err != nil {
		a.temporalError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"daily": list})
}

// scheduledOf says of a schedule what a list and a description have in common.
func (a *api) scheduledOf(id string, spec *client.ScheduleSpec, next []time.Time, recent []client.ScheduleActionResult) scheduled {
	s := scheduled{
		ID: strings.TrimPrefix(id, dailyPrefix), plan: planOf(spec), Next: next, Recent: []scheduledRun{},
		Stream: a.Subscriber + "/v1/stream?tag=" + id,
	}
	if s.Next == nil {
		s.Next = []time.Time{}
	}
	for _, action := range recent {
		if run := action.StartWorkflowResult; run != nil {
			s.Recent = append(s.Recent, scheduledRun{action.ActualTime, started{
				WorkflowID: run.WorkflowID, RunID: run.FirstExecutionRunID, Stream: a.streamURL(run.WorkflowID, run.FirstExecutionRunID),
			}})
		}
	}
	return s
}
