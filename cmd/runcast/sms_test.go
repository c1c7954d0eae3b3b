package main

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/runcast/runcast/pkg/progress"
)

func TestSMS(t *testing.T) {
	var got struct{ From, Text string }
	s, server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		answers(http.StatusAccepted, `{"workflow_id":"page-1","run_id":"r1","stream":"x"}`)(w, r)
	}, sends(strings.Join(run42(progress.StatusCompleted, ""), "")))
	code, out, errs := invoke(t, 0, "sms", "log 8h on apollo", "--from", "+61491570156", "--api-url", server, "--subscriber-url", server)
	if code != 0 || errs != "" || !strings.Contains(out, `"event":"end"`) {
		t.Fatalf("exit %d, stderr %q:\n%s", code, errs, out)
	}
	if got.Text != "log 8h on apollo" || got.From != "+61491570156" {
		t.Errorf("sent %+v", got)
	}
	if asked := s.requests(); !slices.Equal(asked, []string{"/v1/messages", "/v1/workflows/page-1/stream?run=r1"}) {
		t.Errorf("requests %q", asked)
	}
}

func TestSMSRefused(t *testing.T) {
	for body, want := range map[string]string{
		`{"detail":"\"text\" is missing: what the message says."}`: `"text" is missing`,
		`nginx`: "the API answered 400",
	} {
		_, server := serve(t, answers(http.StatusBadRequest, body))
		if code, _, errs := invoke(t, 0, "sms", "x", "--api-url", server); code != exitTrouble || !strings.Contains(errs, want) {
			t.Errorf("exit %d, stderr %q", code, errs)
		}
	}
	if code, _, errs := invoke(t, 0, "sms", "x", "--api-url", "ftp://x"); code != exitTrouble || !strings.Contains(errs, "RUNCAST_API_URL") {
		t.Errorf("exit %d, stderr %q", code, errs)
	}
}
