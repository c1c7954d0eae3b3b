package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/go-chi/chi/v5"

	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/problem"
)

// change is the body of PATCH /v1/reminders/daily/{id}: what is given
// changes.
type change struct {
	TimeZone *string   `json:"time_zone"`
	Times    *[]string `json:"times"`
	Days     *[]string `json:"days"`
	Users    *[]person `json:"users"`
	Parallel *int      `json:"parallel"`
	Paused   *bool     `json:"paused"`
	Note     *string   `json:"note"`
}

// errChange is wrapped by what is wrong with a change.
var errChange = errors.New("bad change")

// apply changes a schedule. Its error wraps [errChange] if the change is at
// fault.
func (c change) apply(a *api, s *client.Schedule, callback string) error {
	action, in, err := a.dailyOf(s)
	if err != nil {
		return err
	}
	refuse := func(err error) error { return fmt.Errorf("%w: %w", errChange, err) }
	p := planOf(s.Spec)
	zoneBefore := p.TimeZone
	if c.TimeZone != nil {
		p.TimeZone = *c.TimeZone
	}
	if c.Times != nil {
		p.Times = *c.Times
	}
	if c.Days != nil {
		p.Days = *c.Days
	}
	spec, err := p.spec()
	if err != nil {
		return refuse(err)
	}
	s.Spec = &spec
	if c.Parallel != nil {
		if *c.Parallel < 1 || *c.Parallel > maxParallel {
			return refuse(fmt.Errorf(`"parallel" is not between 1 and %d`, maxParallel))
		}
		in.Parallel = *c.Parallel
	}
	if c.Users != nil {
		changed, err := dailyInput(*c.Users, in.Parallel, p.TimeZone)
		if err != nil {
			return refuse(err)
		}
		for i := range changed.Users {
			changed.Users[i].StatusCallback = callback
		}
		in = changed
	} else if c.TimeZone != nil {
		for i := range in.Users {
			// Those with one of their own keep it.
			if before := in.Users[i].TimeZone; before == zoneBefore || before == "" {
				in.Users[i].TimeZone = p.TimeZone
			}
		}
	}
	if c.Note != nil && len(*c.Note) > maxName {
		return refuse(fmt.Errorf(`"note" is longer than %d bytes`, maxName))
	}
	if s.State == nil {
		s.State = &client.ScheduleState{}
	}
	if c.Paused != nil {
		s.State.Paused = *c.Paused
	}
	if c.Note != nil {
		s.State.Note = *c.Note
	}
	action.Args = []any{in}
	return nil
}

// dailyOf returns what a schedule starts, and with what.
func (a *api) dailyOf(s *client.Schedule) (*client.ScheduleWorkflowAction, message.DailyInput, error) {
	var in message.DailyInput
	action, ok := s.Action.(*client.ScheduleWorkflowAction)
	if !ok || len(action.Args) != 1 {
		return nil, in, errors.New("the schedule was not made here")
	}
	payload, ok := action.Args[0].(*commonpb.Payload)
	if !ok {
		return nil, in, errors.New("the schedule's argument is not encoded")
	}
	if err := a.DataConverter.FromPayload(payload, &in); err != nil {
		return nil, in, fmt.Errorf("read the schedule's argument: %w", err)
	}
	return action, in, nil
}

func (a *api) changeDaily(w http.ResponseWriter, r *http.Request) {
	id, ok := scheduleID(w, r)
	if !ok {
		return
	}
	var c change
	if !a.readJSON(w, r, &c, `{"paused":true}, or has any other member of `+dailyExample+" but id") {
		return
	}
	if c == (change{}) {
		problem.Write(w, problem.Problem{Status: http.StatusBadRequest, Detail: `There is nothing to change; give time_zone, times, days, users, parallel, paused or note.`})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.Timeout)
	defer cancel()
	err := a.Temporal.ScheduleClient().GetHandle(ctx, id).Update(ctx, client.ScheduleUpdateOptions{
		DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
			s := in.Description.Schedule
			return &client.ScheduleUpdate{Schedule: &s}, c.apply(a, &s, a.callbackBase(r))
		},
	})
	if errors.Is(err, errChange) {
		problem.Write(w, problem.Problem{Status: http.StatusBadRequest, Detail: err.Error() + "."})
		return
	}
	if err != nil {
		a.scheduleError(w, r, err)
		return
	}
	a.answerSchedule(w, r, http.StatusOK, id)
}

func (a *api) deleteDaily(w http.ResponseWriter, r *http.Request) {
	id, ok := scheduleID(w, r)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.Timeout)
	defer cancel()
	if err := a.Temporal.ScheduleClient().GetHandle(ctx, id).Delete(ctx); err != nil {
		a.scheduleError(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (a *api) describeDaily(w http.ResponseWriter, r *http.Request) {
	if id, ok := scheduleID(w, r); ok {
		a.answerSchedule(w, r, http.StatusOK, id)
	}
}

// answerSchedule answers with what Temporal holds of a schedule.
func (a *api) answerSchedule(w http.ResponseWriter, r *http.Request, status int, id string) {
	ctx, cancel := context.WithTimeout(r.Context(), a.Timeout)
	defer cancel()
	d, err := a.Temporal.ScheduleClient().GetHandle(ctx, id).Describe(ctx)
	if err != nil {
		a.scheduleError(w, r, err)
		return
	}
	s := a.scheduledOf(id, d.Schedule.Spec, d.Info.NextActionTimes, d.Info.RecentActions)
	if d.Schedule.State != nil {
		s.Paused, s.Note = d.Schedule.State.Paused, d.Schedule.State.Note
	}
	_, in, err := a.dailyOf(&d.Schedule)
	if err != nil {
		a.temporalError(w, r, err)
		return
	}
	s.Parallel = in.Parallel
	for _, user := range in.Users {
		s.Users = append(s.Users, masked(user))
	}
	writeJSON(w, status, s)
}

// scheduleID returns the schedule that the path names, or answers that there
// is no such one.
func scheduleID(w http.ResponseWriter, r *http.Request) (string, bool) {
	id := chi.URLParam(r, "id")
	if checkScheduleID(id) != nil {
		noSchedule(w)
		return "", false
	}
	return dailyPrefix + id, true
}

func noSchedule(w http.ResponseWriter) {
	problem.Write(w, problem.Problem{
		Status: http.StatusNotFound,
		Detail: "There is no such schedule; GET /v1/reminders/daily lists them.",
	})
}

func (a *api) scheduleError(w http.ResponseWriter, r *http.Request, err error) {
	if notFound := (*serviceerror.NotFound)(nil); errors.As(err, &notFound) {
		noSchedule(w)
		return
	}
	a.temporalError(w, r, err)
}
