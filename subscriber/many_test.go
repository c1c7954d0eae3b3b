package subscriber_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/subscriber"
)

// One id resumes up to 16 workflows.
func TestManyResume(t *testing.T) {
	n := start(t)
	q := url.Values{}
	var runs []*run
	for i := range 16 {
		id := fmt.Sprint("w", i)
		q.Add("workflow", id)
		r := newRun(t, n.store, id, "run")
		r.log("1")
		runs = append(runs, r)
	}
	path := "/v1/stream?" + q.Encode()
	c := n.sse(t, path)
	for range 16 {
		expect(t, c, "snapshot")
	}
	for _, r := range runs {
		r.log("2")
	}
	last := ""
	for range 16 {
		last = expect(t, c, "update").ID
	}
	if strings.Count(last, ",") != 15 {
		t.Fatalf("id %q", last)
	}
	c.close()
	runs[3].log("while away")
	runs[9].log("while away")
	c = n.sse(t, path, "Last-Event-ID", last)
	seen := map[string]bool{}
	for range 2 {
		f := expect(t, c, "update")
		if f.event(t).Seq != 3 {
			t.Errorf("seq %d", f.event(t).Seq)
		}
		seen[f.Topic["workflow"]] = true
	}
	if !seen["w3"] || !seen["w9"] {
		t.Errorf("updates of %v", seen)
	}
	// An id that is not of this request is answered, not obeyed.
	d := n.sse(t, "/v1/stream?workflow=w1&workflow=w2", "Last-Event-ID", last)
	for range 2 {
		if _, _, reason := gapOf(t, expect(t, d, "gap")); reason != "bad_position" {
			t.Errorf("gap for %s", reason)
		}
		expect(t, d, "snapshot")
	}
}

func TestManyWebSocket(t *testing.T) {
	n := start(t, func(o *subscriber.Options) { o.Config.MaxTopics = 2 })
	a, b := newRun(t, n.store, "a", "run"), newRun(t, n.store, "b", "run")
	first := a.log("1")
	second := a.log("2")
	b.log("1")
	c := n.ws(t, "/v1/ws")
	say := func(text string) {
		t.Helper()
		if err := c.conn.Write(c.ctx, websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(text, why string) {
		t.Helper()
		say(text)
		if f := expect(t, c, "error"); !strings.Contains(string(f.Data), why) {
			t.Errorf("%s: %s", text, f.Data)
		}
	}
	say(`{"type":"subscribe","workflow":"a","after":"` + first.String() + `"}`)
	if f := expect(t, c, "update"); f.ID != second.String() || f.Topic["workflow"] != "a" {
		t.Errorf("update %s of %v", f.ID, f.Topic)
	}
	say(`{"type":"subscribe","workflow":"b"}`)
	expect(t, c, "snapshot")
	refused(`{"type":"subscribe","workflow":"c"}`, "as many as it may")
	refused(`{"type":"subscribe"}`, "one workflow or one tag")
	refused(`{"type":"dance","workflow":"a"}`, "dance")
	refused(`{"type":"unsubscribe","workflow":"c"}`, "does not follow")
	refused(`{"typ":"subscribe","workflow":"a"}`, "typ")
	refused(`[]`, "not understood")
	refused(`{"type":"subscribe","workflow":"a","mode":"x"}`, "mode")
	say(`{"type":"unsubscribe","workflow":"b"}`)
	say(`{"type":"subscribe","tag":"blue"}`)
	expect(t, c, "snapshot")
	b.log("2") // nobody's
	a.addWith(progress.TypeLog, func(e *progress.Event) { e.Tags = []string{"blue"} })
	var kinds []string
	for range 2 {
		f := expect(t, c, "update")
		for kind := range f.Topic {
			kinds = append(kinds, kind)
		}
	}
	if strings.Join(kinds, " ") != "workflow tag" && strings.Join(kinds, " ") != "tag workflow" {
		t.Errorf("updates of %v", kinds)
	}
	// The end of one topic leaves the others.
	a.add(progress.TypeClosed)
	for {
		f, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		if f.Kind == "end" {
			break
		}
	}
	say(`{"type":"subscribe","workflow":"a"}`)
	for _, kind := range []string{"snapshot", "end"} {
		for {
			f, err := c.next()
			if err != nil {
				t.Fatal(err)
			}
			if f.Topic["workflow"] == "a" {
				if f.Kind != kind {
					t.Errorf("got %s, want %s", f.Kind, kind)
				}
				break
			}
		}
	}
}

// A single stream takes no messages.
func TestWebSocketMessageIsRefused(t *testing.T) {
	n := start(t)
	c := n.ws(t, "/v1/workflows/w/ws")
	expect(t, c, "snapshot")
	if err := c.conn.Write(c.ctx, websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.next(); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("closed with %v", err)
	}
}

func TestManyWithTags(t *testing.T) {
	n := start(t)
	c := n.sse(t, "/v1/stream?workflow=w&tag=blue")
	got := map[string]bool{}
	for range 2 {
		f := expect(t, c, "snapshot")
		got[f.Topic["workflow"]+f.Topic["tag"]] = true
	}
	r := newRun(t, n.store, "w", "run")
	r.addWith(progress.TypeStarted, func(e *progress.Event) { e.Tags = []string{"blue"} })
	for range 2 {
		f := expect(t, c, "update")
		got[f.Topic["workflow"]+f.Topic["tag"]+"!"] = true
	}
	if len(got) != 4 {
		t.Errorf("saw %v", got)
	}
}
