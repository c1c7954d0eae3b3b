package strategy

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/problem"
	"github.com/runcast/runcast/pkg/webhook"
)

// newReceiver returns a receiver and the keys with which it is sent messages.
func newReceiver(t *testing.T) (*Receiver, webhook.Keys) {
	t.Helper()
	k, err := webhook.ParseKeys("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
	if err != nil {
		t.Fatal(err)
	}
	const url = "http://127.0.0.1:8081/v1/strategies/callback"
	r, err := NewReceiver(k, url)
	if err == nil {
		k, err = k.For(url)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r, k
}

func postOf(subscriber string, started, version int64) string {
	return postAt(time.Unix(started, 0), subscriber, started, version)
}

func postAt(at time.Time, subscriber string, started, version int64) string {
	body, _ := json.Marshal(handlers.Post{
		Type: handlers.ProgressPost, Subscriber: subscriber,
		Data: handlers.State{Started: started, Version: version, RunID: "r", Time: at},
	})
	return string(body)
}

// send signs a body and hands it to the receiver.
func send(t *testing.T, r *Receiver, k webhook.Keys, id, body string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	if err := k.Sign(req.Header, id, time.Now(), []byte(body)); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w
}

func TestReceiverIsIdempotent(t *testing.T) {
	r, k := newReceiver(t)
	box := r.open()
	for _, m := range []struct {
		id   string
		v    int64
		want int64 // what is taken; 0: nothing
	}{
		{"a", 5, 5}, {"a", 5, 0}, {"b", 7, 7}, {"a", 5, 0},
	} {
		if w := send(t, r, k, m.id, postOf(box.id, 1, m.v)); w.Code != http.StatusNoContent {
			t.Fatalf("%+v: %d %s", m, w.Code, w.Body)
		}
		post := box.take()
		if (post == nil) != (m.want == 0) || post != nil && post.Data.Version != m.want {
			t.Errorf("%+v: %+v", m, post)
		}
	}
	// The newest is what a watcher finds; a later run's is newer than any.
	send(t, r, k, "c", postOf(box.id, 1, 9))
	send(t, r, k, "d", postOf(box.id, 1, 8))
	if post := box.take(); post == nil || post.Data.Version != 9 {
		t.Errorf("%+v", post)
	}
	send(t, r, k, "f", postOf(box.id, 2, 1))
	send(t, r, k, "g", postOf(box.id, 1, 10))
	if post := box.take(); post == nil || post.Data.Started != 2 {
		t.Errorf("a late message of the run before has replaced the new one's: %+v", post)
	}
	// A reset may have made the later run of an earlier one.
	send(t, r, k, "h", postOf(box.id, 2, 2))
	send(t, r, k, "i", postAt(time.Unix(3, 0), box.id, 1, 3))
	if post := box.take(); post == nil || post.Data.Started != 1 {
		t.Errorf("a late message of the run before keeps out the one of a reset: %+v", post)
	}
	box.close()
	if w := send(t, r, k, "e", postOf(box.id, 1, 10)); w.Code != http.StatusGone {
		t.Errorf("a watcher who has gone: %d", w.Code)
	}
	if s := r.Stats(); s[Push] != (ReceiverStats{Taken: 8, Doubles: 2, Strays: 1}) || s[Signal] != (ReceiverStats{}) {
		t.Errorf("%+v", s)
	}
}

func TestReceiverMemoryIsBounded(t *testing.T) {
	r, k := newReceiver(t)
	box := r.open()
	for n := range int64(seenMax + 100) {
		r.dispatch(fmt.Sprint("id", n), &handlers.Post{Subscriber: box.id, Data: handlers.State{Started: 1, Version: n + 1}})
	}
	if len(r.seen) != seenMax || len(r.order) != seenMax {
		t.Errorf("it remembers %d and %d", len(r.seen), len(r.order))
	}
	box.take()
	send(t, r, k, fmt.Sprint("id", seenMax+99), postOf(box.id, 1, 1))
	if box.full() {
		t.Error("the newest is forgotten")
	}
}

func TestReceiverRefuses(t *testing.T) {
	r, k := newReceiver(t)
	box := r.open()
	good := postOf(box.id, 1, 1)
	for name, tt := range map[string]struct {
		change func(*http.Request)
		code   int
	}{
		"another method":    {func(req *http.Request) { req.Method = http.MethodPut }, 405},
		"no JSON":           {func(req *http.Request) { req.Header.Set("Content-Type", "text/plain") }, 415},
		"no signature":      {func(req *http.Request) { req.Header.Del("webhook-signature") }, 401},
		"another signature": {func(req *http.Request) { req.Header.Set("webhook-id", "other") }, 401},
		"another body":      {func(req *http.Request) { req.Body = io.NopCloser(strings.NewReader(good + " ")) }, 401},
		"too long":          {func(req *http.Request) { req.Body = io.NopCloser(strings.NewReader(strings.Repeat(" ", 64<<10+1))) }, 413},
	} {
		req := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(good))
		req.Header.Set("Content-Type", "application/json; charset=utf-8")
		if err := k.Sign(req.Header, "id", time.Now(), []byte(good)); err != nil {
			t.Fatal(err)
		}
		tt.change(req)
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req)
		if w.Code != tt.code || w.Header().Get("Content-Type") != problem.ContentType {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	for i, body := range []string{"", "x", "[]", "{}", `{"subscriber":"` + box.id + `"}`, postOf(box.id, 0, 1), postOf(box.id, 1, -1), strings.Replace(good, handlers.ProgressPost, "other", 1)} {
		if w := send(t, r, k, fmt.Sprint("bad-", i), body); w.Code != http.StatusBadRequest {
			t.Errorf("%q: %d", body, w.Code)
		}
	}
	if box.full() {
		t.Error("something was taken")
	}
	if s := r.Stats(); s["unknown"].Refused == 0 || s[Push] != (ReceiverStats{}) || s[Signal] != (ReceiverStats{}) {
		t.Errorf("%+v", s)
	}
	// What metrics call them is what they are called.
	for _, push := range []bool{false, true} {
		want, typ := Signal, handlers.ChangedPost
		if push {
			want, typ = Push, handlers.ProgressPost
		}
		sub := (&subscribed{o: &Subscribing{receiver: r, push: push}, box: box}).subscription(time.Minute)
		if got, post := sub.Strategy(), (&handlers.Post{Type: typ}).Strategy(); got != want || post != want {
			t.Errorf("a subscription is counted as %s, a post as %s, want %s", got, post, want)
		}
	}
	if _, err := NewReceiver(webhook.Keys{}, "http://x"); err == nil {
		t.Error("it takes webhooks unchecked")
	}
	for _, u := range []string{"", "x", "ftp://x", "http://"} {
		if _, err := NewReceiver(k, u); err == nil {
			t.Errorf("it is reached at %q", u)
		}
	}
}
