package main

import (
	"strings"
	"testing"

	"github.com/runcast/runcast/pkg/webhook"
)

func TestPushSecret(t *testing.T) {
	const secrets = "whsec_bmV3IHNlY3JldCBmb3IgdGhlIHJvdGF0aW9uIQ==,C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	const url = "https://receiver.example/runcast"
	t.Setenv("RUNCAST_PUSH_SECRETS", secrets)
	deployment, err := webhook.ParseKeys(strings.Split(secrets, ",")...)
	if err != nil {
		t.Fatal(err)
	}
	of, err := deployment.For(url)
	if err != nil {
		t.Fatal(err)
	}
	code, out, errs := invoke(t, 0, "push-secret", url)
	if want := strings.Join(of.Secrets(), "\n") + "\n"; code != 0 || out != want || errs != "" || strings.Count(out, "whsec_") != 2 {
		t.Errorf("exit %d, stderr %q: %q, want %q", code, errs, out, want)
	}
	for _, tt := range []struct{ secrets, url, want string }{
		{secrets, "receiver.example", "scheme"},
		{secrets, "https://who:me@receiver.example", "password"},
		{"", url, "RUNCAST_PUSH_SECRETS is not set"},
		{"short", url, "openssl rand"},
	} {
		t.Setenv("RUNCAST_PUSH_SECRETS", tt.secrets)
		code, out, errs := invoke(t, 0, "push-secret", tt.url)
		if code != exitTrouble || out != "" || !strings.Contains(errs, tt.want) {
			t.Errorf("%q, %s: exit %d, %q, %q", tt.secrets, tt.url, code, out, errs)
		}
	}
	t.Setenv("RUNCAST_PUSH_SECRETS", secrets)
	t.Setenv("RUNCAST_PUSH_SECRET", secrets)
	if code, out, errs := invoke(t, 0, "push-secret", url); code != exitTrouble || out != "" || !strings.Contains(errs, "RUNCAST_PUSH_SECRET;") || strings.Contains(errs, "whsec_") {
		t.Errorf("a misspelt variable: exit %d, %q, %q", code, out, errs)
	}
}
