package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// lettersServer has three letters on two pages, of which b is not taken.
func lettersServer(t *testing.T) (url string, asked func() string) {
	t.Helper()
	var mu sync.Mutex
	var log []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		log = append(log, r.Method+" "+r.URL.EscapedPath())
		mu.Unlock()
		switch {
		case r.Method == http.MethodGet && r.URL.Query().Get("cursor") == "":
			w.Write([]byte(`{"deadletters":[{"id":"c","url":"https://x.example/","workflow_id":"order-42","reason":"410 \u001b[31mGone","attempts":5,"time":"2026-11-24T10:00:00Z"}],"next_cursor":"n"}`))
		case r.Method == http.MethodGet:
			w.Write([]byte(`{"deadletters":[{"id":"b"},{"id":"a"}]}`))
		case strings.Contains(r.URL.Path, "/b"):
			answers(http.StatusBadGateway, `{"detail":"It was not taken, and stays: 503."}`)(w, r)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(log, "\n")
	}
}

func TestDeadLetters(t *testing.T) {
	url, asked := lettersServer(t)
	code, out, errs := invoke(t, 0, "deadletters", "--api-url", url)
	if code != 0 || errs != "" || strings.Count(out, "\n") != 3 || !strings.Contains(out, "order-42") || strings.Contains(out, "\x1b") {
		t.Errorf("exit %d, stderr %q:\n%q", code, errs, out)
	}
	if code, out, _ := invoke(t, 0, "deadletters", "list", "--json", "--limit", "1", "--api-url", url); code != 0 || strings.Count(out, "\n") != 1 || !strings.Contains(out, `"attempts":5`) {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if code, out, _ := invoke(t, 0, "deadletters", "replay", "a", "--api-url", url); code != 0 || !strings.Contains(out, "a was taken") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	code, out, errs = invoke(t, 0, "deadletters", "replay", "--all", "--api-url", url)
	if code != exitNotCompleted || !strings.Contains(errs, "b: It was not taken") || !strings.Contains(errs, "1 of 3") || strings.Index(out, "a was") > strings.Index(out, "c was") {
		t.Errorf("exit %d, stderr %q:\n%s", code, errs, out)
	}
	if code, _, errs := invoke(t, 0, "deadletters", "remove", "x/y", "--api-url", url); code != 0 || errs != "" {
		t.Errorf("exit %d, stderr %q", code, errs)
	}
	if all := asked(); !strings.Contains(all, "POST /v1/deadletters/a/replay") || !strings.HasSuffix(all, "DELETE /v1/deadletters/x%2Fy") {
		t.Errorf("asked:\n%s", all)
	}
}

func TestDeadLettersRefused(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(answers(http.StatusServiceUnavailable, `{"detail":"The store cannot be reached now; try again."}`)))
	defer s.Close()
	url := s.URL
	for _, args := range [][]string{{"list"}, {"replay", "--all"}, {"remove", "a"}} {
		if code, _, errs := invoke(t, 0, append(append([]string{"deadletters"}, args...), "--api-url", url)...); code != exitTrouble || !strings.Contains(errs, "store cannot be reached") {
			t.Errorf("%v: exit %d, stderr %q", args, code, errs)
		}
	}
	for _, args := range [][]string{{"replay"}, {"replay", "a", "--all"}, {"remove"}, {"list", "--api-url", "ftp://x"}, {"list", "--limit", "-1"}} {
		if code, _, errs := invoke(t, 0, append([]string{"deadletters"}, args...)...); code != exitTrouble || errs == "" {
			t.Errorf("%v: exit %d, stderr %q", args, code, errs)
		}
	}
}

// An API behind a proxy may be given with a token, be it as the user.
func TestDeadLettersErrorsShowNoToken(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(answers(http.StatusOK, "ok")))
	defer s.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for _, place := range []string{s.URL, gone.URL} {
		_, host, _ := strings.Cut(place, "//")
		code, _, errs := invoke(t, 0, "deadletters", "--api-url", "http://s3cret:s3cret@"+host+"/?s3cret")
		if code != exitTrouble || strings.Contains(errs, "s3cret") || !strings.Contains(errs, "http://xxxxx@"+host+"/") {
			t.Errorf("exit %d, stderr %q", code, errs)
		}
	}
}

// Where the API is gone there is no use in asking it for each letter.
func TestReplayAllEndsWithTheAPI(t *testing.T) {
	var posts atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.Write([]byte(`{"deadletters":[{"id":"c"},{"id":"b"},{"id":"a"}]}`))
			return
		}
		posts.Add(1)
		panic(http.ErrAbortHandler)
	}))
	defer s.Close()
	code, out, errs := invoke(t, 0, "deadletters", "replay", "--all", "--api-url", s.URL)
	if code != exitTrouble || out != "" || posts.Load() != 1 || !strings.Contains(errs, "3 of 3 are left") {
		t.Errorf("exit %d after %d requests, %q, stderr %q", code, posts.Load(), out, errs)
	}
}
