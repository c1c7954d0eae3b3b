package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/httpapi"
	"github.com/runcast/runcast/pkg/message"
)

// startedWith reads what a run was started with, and its tags.
func startedWith(t *testing.T, temporal client.Client, id string, in any) []string {
	t.Helper()
	event, err := temporal.GetWorkflowHistory(t.Context(), id, "", false, 0).Next()
	if err != nil {
		t.Fatal(err)
	}
	attributes := event.GetWorkflowExecutionStartedEventAttributes()
	if err := converter.GetDefaultDataConverter().FromPayloads(attributes.GetInput(), in); err != nil {
		t.Fatal(err)
	}
	var tags []string
	if err := converter.GetDefaultDataConverter().FromPayload(attributes.GetMemo().GetFields()[httpapi.TagsMemo], &tags); err != nil {
		t.Fatal(err)
	}
	return tags
}

// name is a schedule's that no other test has.
func name(t *testing.T) string {
	t.Helper()
	return strings.ToLower(t.Name()) + "-" + newSID(t)[2:10]
}

func TestReminder(t *testing.T) {
	temporal := testenv.Temporal(t)
	s := newAPI(t, temporal, withTwilio(t))
	id := name(t)
	body := `{"id":"` + id + `","to":"+61491570156","name":"Ada","time_zone":"Australia/Sydney","hours":7.5,"wait":"90m","reminders":3,"escalate_to":"+61491570157"}`
	a := call(t, s, "POST", "/v1/reminders", body)
	if a.StatusCode != 202 || a.body["workflow_id"] != "reminder-"+id || !strings.HasSuffix(fmt.Sprint(a.body["stream"]), "/stream?run="+fmt.Sprint(a.body["run_id"])) {
		t.Fatalf("got %d %s", a.StatusCode, a.text)
	}
	if again := call(t, s, "POST", "/v1/reminders", body); again.StatusCode != 202 || again.text != a.text {
		t.Errorf("again: got %d %s", again.StatusCode, again.text)
	}
	var got message.ReminderInput
	tags := startedWith(t, temporal, "reminder-"+id, &got)
	want := message.ReminderInput{
		Channel: message.ChannelSMS, To: "+61491570156", Name: "Ada", TimeZone: "Australia/Sydney", Hours: 7.5, Wait: 90 * time.Minute,
		Reminders: 3, EscalateTo: "+61491570157", StatusCallback: publicURL + "/webhooks/twilio/status",
	}
	if got != want || !slices.Equal(tags, []string{"reminders"}) {
		t.Errorf("started with %+v, %q", got, tags)
	}
	if err := temporal.TerminateWorkflow(t.Context(), "reminder-"+id, "", "test"); err != nil {
		t.Error(err)
	}
}

func TestBadReminders(t *testing.T) {
	s := newAPI(t, fakeTemporal{t: t})
	for _, tt := range []struct{ path, body, says string }{
		{"/v1/reminders", `{}`, `\"to\"`},
		{"/v1/reminders", `{"to":"Ada"}`, `\"to\"`},
		{"/v1/reminders", `{"to":"whatsapp:Ada"}`, `\"to\"`},
		{"/v1/reminders", `{"to":"+61491570156","time_zone":"Sydney"}`, "time_zone"},
		{"/v1/reminders", `{"to":"+61491570156","time_zone":"Local"}`, "time_zone"},
		{"/v1/reminders", `{"to":"+61491570156","hours":25}`, "hours"},
		{"/v1/reminders", `{"to":"+61491570156","wait":"soon"}`, "wait"},
		{"/v1/reminders", `{"to":"+61491570156","wait":"-1h"}`, "wait"},
		{"/v1/reminders", `{"to":"+61491570156","wait":"999h"}`, "wait"},
		{"/v1/reminders", `{"to":"+61491570156","reminders":11}`, "reminders"},
		{"/v1/reminders", `{"to":"+61491570156","escalate_to":"x"}`, "escalate_to"},
		{"/v1/reminders", `{"to":"+61491570156","escalate_to":"b@example.com"}`, "another channel"},
		{"/v1/reminders", `{"to":"+61491570156","name":"a\nb"}`, "name"},
		{"/v1/reminders", `{"to":"+61491570156","id":"a b"}`, "id"},
		{"/v1/reminders", `{"to":"+61491570156","ot":1}`, "ot"},
		{"/v1/reminders/daily", `{}`, "users"},
		{"/v1/reminders/daily", `{"users":[{"to":"+61491570156"},{"to":"x"}]}`, "entry 2"},
		{"/v1/reminders/daily", `{"users":[{"to":"+61491570156"}],"times":["5pm"]}`, "times"},
		{"/v1/reminders/daily", `{"users":[{"to":"+61491570156"}],"times":["24:00"]}`, "times"},
		{"/v1/reminders/daily", `{"users":[{"to":"+61491570156"}],"times":["17:00"],"days":["Monday"]}`, "days"},
		{"/v1/reminders/daily", `{"users":[{"to":"+61491570156"}],"times":["17:00"],"days":[]}`, "days"},
		{"/v1/reminders/daily", `{"users":[{"to":"+61491570156"}],"times":["17:00"],"time_zone":"Mars/Base"}`, "time_zone"},
		{"/v1/reminders/daily", `{"users":[{"to":"+61491570156"}],"paused":true}`, "times"},
		{"/v1/reminders/daily", `{"users":[{"to":"+61491570156"}],"parallel":101}`, "parallel"},
		{"/v1/reminders/daily", `{"users":[{"to":"+61491570156"}],"id":"a/b"}`, "id"},
	} {
		a := call(t, s, "POST", tt.path, tt.body)
		if a.StatusCode != 400 || !strings.Contains(a.text, tt.says) {
			t.Errorf("%s %s: got %d %s", tt.path, tt.body, a.StatusCode, a.text)
		}
	}
	if a := call(t, s, "PUT", "/v1/reminders/daily/x", `{}`); a.StatusCode != 405 || a.Header.Get("Allow") != "DELETE, GET, HEAD, PATCH" {
		t.Errorf("got %d, Allow %q", a.StatusCode, a.Header.Get("Allow"))
	}
}

// Without times people are reminded once, at once.
func TestDailyAtOnce(t *testing.T) {
	temporal := testenv.Temporal(t)
	s := newAPI(t, temporal, withTwilio(t))
	id := name(t)
	var users []string
	for i := range 200 {
		users = append(users, fmt.Sprintf(`{"to":"+6149157%04d","name":"Person %d"}`, i, i))
	}
	a := call(t, s, "POST", "/v1/reminders/daily", `{"id":"`+id+`","time_zone":"Australia/Sydney","users":[`+strings.Join(users, ",")+`]}`)
	if a.StatusCode != 202 || a.body["workflow_id"] != "daily-"+id || a.body["stream"] == nil {
		t.Fatalf("got %d %s", a.StatusCode, a.text)
	}
	var in message.DailyInput
	tags := startedWith(t, temporal, "daily-"+id, &in)
	if len(in.Users) != 200 || in.Users[199].TimeZone != "Australia/Sydney" || in.Users[0].StatusCallback == "" || in.Parallel != 10 || !slices.Equal(tags, []string{"daily-" + id}) {
		t.Errorf("started with %d users, %+v, %d, %q", len(in.Users), in.Users[199], in.Parallel, tags)
	}
	if err := temporal.TerminateWorkflow(t.Context(), "daily-"+id, "", "test"); err != nil {
		t.Error(err)
	}
}

// A schedule is made, listed, described, changed, paused, run and deleted.
func TestDailySchedule(t *testing.T) {
	temporal := testenv.Temporal(t)
	s := newAPI(t, temporal, withTwilio(t))
	id := name(t)
	path := "/v1/reminders/daily/" + id
	body := `{"id":"` + id + `","time_zone":"Australia/Sydney","times":["17:00","09:30"],"parallel":5,"note":"the Sydney office",
		"users":[{"to":"+61491570156","name":"Ada"},{"to":"whatsapp:+61491570157","time_zone":"Australia/Perth"}]}`
	a := call(t, s, "POST", "/v1/reminders/daily", body)
	if a.StatusCode != 201 || a.Header.Get("Location") != path {
		t.Fatalf("got %d %s", a.StatusCode, a.text)
	}
	deleted := false
	t.Cleanup(func() {
		if !deleted {
			ctx := context.WithoutCancel(t.Context())
			_ = temporal.ScheduleClient().GetHandle(ctx, "daily-"+id).Delete(ctx)
		}
	})
	if strings.Contains(a.text, "491570156") || !strings.Contains(a.text, "+61•••••0156") {
		t.Errorf("numbers are not masked in %s", a.text)
	}
	check := func(a answer, want map[string]any) {
		t.Helper()
		for member, value := range want {
			got, _ := json.Marshal(a.body[member])
			if text, _ := json.Marshal(value); string(got) != string(text) {
				t.Errorf("%s is %s, want %s", member, got, text)
			}
		}
	}
	check(a, map[string]any{
		"id": id, "time_zone": "Australia/Sydney", "times": []string{"09:30", "17:00"}, "days": []string{"mon", "tue", "wed", "thu", "fri"},
		"paused": false, "note": "the Sydney office", "parallel": 5, "recent": []any{}, "stream": "https://stream.example/v1/stream?tag=daily-" + id,
	})
	sydney, err := time.LoadLocation("Australia/Sydney")
	if err != nil {
		t.Fatal(err)
	}
	next, err := time.Parse(time.RFC3339, a.body["next"].([]any)[0].(string))
	if local := next.In(sydney); err != nil || local.Format("15:04") != "17:00" && local.Format("15:04") != "09:30" || local.Weekday() == time.Sunday || local.Weekday() == time.Saturday {
		t.Errorf("the next time is %v, %v", next.In(sydney), err)
	}
	if again := call(t, s, "POST", "/v1/reminders/daily", body); again.StatusCode != 409 {
		t.Errorf("again: got %d %s", again.StatusCode, again.text)
	}

	a = call(t, s, "PATCH", path, `{"paused":true,"times":["18:00"],"time_zone":"Australia/Adelaide","days":["sun"],"note":"holidays"}`)
	if a.StatusCode != 200 {
		t.Fatalf("got %d %s", a.StatusCode, a.text)
	}
	check(a, map[string]any{"paused": true, "note": "holidays", "time_zone": "Australia/Adelaide", "times": []string{"18:00"}, "days": []string{"sun"}, "parallel": 5})
	for _, want := range []string{`"Ada","time_zone":"Australia/Adelaide"`, `"time_zone":"Australia/Perth"`} {
		if !strings.Contains(a.text, want) {
			t.Errorf("%s is not in %s", want, a.text)
		}
	}
	a = call(t, s, "PATCH", path, `{"users":[{"to":"+61491570158"}],"paused":false}`)
	check(a, map[string]any{"paused": false, "users": []map[string]any{{"to": "+61•••••0158", "time_zone": "Australia/Adelaide"}}})
	for _, tt := range []struct{ body, says string }{
		{`{}`, "nothing to change"},
		{`{"times":[]}`, "times"},
		{`{"parallel":0}`, "parallel"},
		{`{"users":[]}`, "users"},
		{`{"id":"other"}`, "id"},
	} {
		if a := call(t, s, "PATCH", path, tt.body); a.StatusCode != 400 || !strings.Contains(a.text, tt.says) {
			t.Errorf("%s: got %d %s", tt.body, a.StatusCode, a.text)
		}
	}

	// What a schedule starts is what was asked for at last, with its tags.
	w := worker.New(temporal, "httpapi-"+t.Name(), worker.Options{})
	w.RegisterWorkflowWithOptions(func(workflow.Context, message.DailyInput) error { return nil }, workflow.RegisterOptions{Name: message.DailyWorkflow})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	if err := temporal.ScheduleClient().GetHandle(t.Context(), "daily-"+id).Trigger(t.Context(), client.ScheduleTriggerOptions{}); err != nil {
		t.Fatal(err)
	}
	var run string
	eventually(t, "a run of the schedule", func() bool {
		recent, _ := call(t, s, "GET", path, "").body["recent"].([]any)
		if len(recent) != 1 {
			return false
		}
		run, _ = recent[0].(map[string]any)["workflow_id"].(string)
		return strings.HasPrefix(run, "daily-"+id)
	})
	var in message.DailyInput
	tags := startedWith(t, temporal, run, &in)
	want := message.ReminderInput{Channel: message.ChannelSMS, To: "+61491570158", TimeZone: "Australia/Adelaide", StatusCallback: publicURL + "/webhooks/twilio/status"}
	if len(in.Users) != 1 || in.Users[0] != want || !slices.Equal(tags, []string{"daily-" + id}) {
		t.Errorf("it started with %+v, %q", in, tags)
	}
	eventually(t, "the schedule in the list", func() bool {
		list, _ := call(t, s, "GET", "/v1/reminders/daily", "").body["daily"].([]any)
		return slices.ContainsFunc(list, func(e any) bool {
			entry, _ := e.(map[string]any)
			return entry["id"] == id && entry["users"] == nil && fmt.Sprint(entry["times"]) == "[18:00]" && entry["time_zone"] == "Australia/Adelaide"
		})
	})

	if a := call(t, s, "DELETE", path, ""); a.StatusCode != 204 {
		t.Errorf("got %d %s", a.StatusCode, a.text)
	}
	deleted = true
	for _, method := range []string{"GET", "PATCH", "DELETE"} {
		body := ""
		if method == "PATCH" {
			body = `{"paused":true}`
		}
		if a := call(t, s, method, path, body); a.StatusCode != 404 {
			t.Errorf("%s of one that is gone: got %d %s", method, a.StatusCode, a.text)
		}
	}
}

// eventually waits until it is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("there is no %s", what)
		}
	}
}

// A schedule that named no time zone is given one: its people move with it,
// but for those with one of their own.
func TestDailyZoneComesLater(t *testing.T) {
	temporal := testenv.Temporal(t)
	s := newAPI(t, temporal, withTwilio(t))
	id := name(t)
	path := "/v1/reminders/daily/" + id
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		_ = temporal.ScheduleClient().GetHandle(ctx, "daily-"+id).Delete(ctx)
	})
	a := call(t, s, "POST", "/v1/reminders/daily", `{"id":"`+id+`","times":["17:00"],"users":[{"to":"+61491570156"},{"to":"+61491570157","time_zone":"Australia/Perth"}]}`)
	if a.StatusCode != 201 || a.body["time_zone"] != "UTC" {
		t.Fatalf("got %d %s", a.StatusCode, a.text)
	}
	a = call(t, s, "PATCH", path, `{"time_zone":"Australia/Sydney"}`)
	for _, want := range []string{`"to":"+61•••••0156","time_zone":"Australia/Sydney"`, `"to":"+61•••••0157","time_zone":"Australia/Perth"`} {
		if a.StatusCode != 200 || !strings.Contains(a.text, want) {
			t.Errorf("%s is not in %d %s", want, a.StatusCode, a.text)
		}
	}
}
