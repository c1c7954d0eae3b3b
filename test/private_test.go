package test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// Unless texts are to be shown, neither what people write and are answered
// nor who they are is in a log, a metric or a progress event of any program,
// however much is logged and whether things go well or not.
func TestNothingPrivateShows(t *testing.T) {
	subscriberAddr := freeAddr(t)
	p := newPrograms(t, "RUNCAST_LOG_LEVEL=DEBUG", "RUNCAST_SUBSCRIBER_ADDR="+subscriberAddr, "RUNCAST_REPLY_WAIT=14s")
	running := map[string]*process{"worker": p.startWorker(t), "api": p.startAPI(t)}
	running["subscriber"] = p.started(t, build(t, "./cmd/subscriber"), subscriberAddr, nil)
	post := func(path, body string) (id string) {
		t.Helper()
		res, err := http.Post("http://"+p.apiAddr+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var answer struct {
			WorkflowID string `json:"workflow_id"`
		}
		if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || answer.WorkflowID == "" {
			t.Fatalf("%s: %s, %v", path, res.Status, err)
		}
		return answer.WorkflowID
	}
	const said = "log 8h on sesame"
	var ids []string
	e := p.emulator
	ids = append(ids, "sms-"+e.receives(t, person, twilioNumber, said).SID)
	e.reports(t, awaitMessages(t, e, person, 1)[0].SID, "undelivered")
	ids = append(ids, "whatsapp-"+e.receives(t, "whatsapp:"+person, whatsAppNumber, said).SID)
	ids = append(ids, post("/webhooks/email", `{"message_id":"m1","from":"ada.lovelace@example.com","subject":"`+said+`"}`))
	ids = append(ids, post("/v1/messages", `{"from":"`+person+`","text":"remind me at 5pm to open the sesame"}`))
	reminder := post("/v1/reminders", `{"to":"`+person+`","name":"Sesame Smith","wait":"1m","id":"r1"}`)
	// What goes wrong is logged: an answer of Twilio's that gets lost, a
	// request that nobody signed, one that cannot be read.
	e.setCut(true)
	ids = append(ids, "sms-"+e.receives(t, person, twilioNumber, "what is the sesame policy?").SID)
	within(t, time.Minute, "a send whose answer is lost", func(context.Context) error {
		if n := len(e.sends()); n < 2 {
			return fmt.Errorf("%d sends", n)
		}
		return nil
	})
	e.setCut(false)
	for _, body := range []string{url.Values{"From": {person}, "Body": {said}}.Encode(), "From=" + url.QueryEscape(person) + "&Body=sesame%zz"} {
		res, err := http.Post("http://"+p.apiAddr+"/webhooks/twilio/sms", "application/x-www-form-urlencoded", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	for _, m := range awaitMessages(t, e, person, 2) {
		e.reports(t, m.SID, "delivered")
	}
	all := map[string]string{"list": text(t, "http://"+subscriberAddr+"/v1/workflows")}
	for _, id := range ids {
		p.awaitStatus(t, id, "completed")
	}
	for _, id := range append(ids, reminder) {
		base := "http://" + subscriberAddr + "/v1/workflows/" + url.PathEscape(id)
		all["snapshot of "+id], all["events of "+id] = text(t, base), text(t, base+"/events?limit=1000")
	}
	for name, addr := range map[string]string{"api": p.apiAddr, "worker": p.worker, "subscriber": subscriberAddr} {
		all["metrics of "+name] = text(t, "http://"+addr+"/metrics")
	}
	for name, program := range running {
		if err := program.stop(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		all["log of "+name] = program.output(t)
	}
	for where, what := range all {
		for _, private := range []string{"491570156", "sesame", "Sesame", "lovelace"} {
			if at := strings.Index(what, private); at >= 0 {
				t.Errorf("%q is in the %s: …%s…", private, where, what[max(0, at-200):min(len(what), at+100)])
			}
		}
	}
	if !strings.Contains(all["events of "+ids[0]], "Timesheet agent") || !strings.Contains(all["events of "+ids[0]], "characters)") ||
		!strings.Contains(all["metrics of worker"], `runcast_messages_sends_total{channel="sms"`) {
		t.Errorf("there is nothing to be seen: %v", all)
	}
}
