package conversation_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/agents"
	"github.com/runcast/runcast/pkg/conversation"
	"github.com/runcast/runcast/pkg/message"
)

const ada = message.Address("+61491570156")

// each runs the test on a real Redis and on the embedded one.
func each(t *testing.T, f func(*testing.T, redis.UniversalClient, *conversation.Store)) {
	for name, addr := range map[string]func(*testing.T) string{
		"redis":    func(t *testing.T) string { return testenv.Redis(t).Addr },
		"embedded": func(t *testing.T) string { return testenv.Mini(t).Addr() },
	} {
		t.Run(name, func(t *testing.T) {
			c := redis.NewClient(&redis.Options{Addr: addr(t)})
			t.Cleanup(func() { c.Close() })
			f(t, c, conversation.New(c, conversation.Options{Prefix: testenv.Prefix(t)}))
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestHours(t *testing.T) {
	each(t, func(t *testing.T, c redis.UniversalClient, s *conversation.Store) {
		ctx := t.Context()
		record := func(who message.Address, key string, entries ...agents.Entry) []agents.Entry {
			t.Helper()
			recorded, err := s.Record(ctx, who, key, entries)
			must(t, err)
			return recorded
		}
		first := []agents.Entry{{Day: "2026-11-24", Project: "apollo", Hours: 7.5}, {Day: "2026-11-23", Project: "deep space", Hours: 2}}
		record(ada, "m1", first...)
		// A retry, which wants something else: what is recorded stays, and is
		// what it is told.
		if diff := cmp.Diff(first, record(ada, "m1", agents.Entry{Day: "2026-11-24", Project: "gemini", Hours: 1})); diff != "" {
			t.Error(diff)
		}
		if recorded, err := s.Recorded(ctx, "whatsapp:"+ada, "m1"); err != nil || !cmp.Equal(first, recorded) {
			t.Errorf("%v, %v", recorded, err)
		}
		if recorded, err := s.Recorded(ctx, ada, "m0"); err != nil || recorded != nil {
			t.Errorf("%v, %v", recorded, err)
		}
		record("whatsapp:"+ada, "m2", agents.Entry{Day: "2026-11-24", Project: "apollo", Hours: 0.25})
		record("+61491570157", "m3", agents.Entry{Day: "2026-11-24", Project: "secret", Hours: 1})
		// Some are added, and some replace what is there.
		mixed := []agents.Entry{{Day: "2026-11-23", Project: "deep space", Hours: 3, Replace: true}, {Day: "2026-11-22", Project: "mars", Hours: 1}}
		record(ada, "m4", mixed...)
		if _, err := s.Record(ctx, ada, "m5", []agents.Entry{{Day: "2026-11-22", Project: "x", Hours: 1}, {Day: "2026-11-24", Project: "x", Hours: 17}}); !errors.Is(err, agents.ErrFullDay) {
			t.Errorf("a day of more than 24 hours: %v", err)
		}
		if recorded, err := s.Recorded(ctx, ada, "m5"); err != nil || recorded != nil {
			t.Errorf("what was refused is noted: %v, %v", recorded, err)
		}
		// The note of an earlier version does not say what it stands for.
		must(t, c.Set(ctx, c.Keys(ctx, "*hours:{+61491570156}").Val()[0]+":noted:m6", "1", time.Minute).Err())
		if diff := cmp.Diff(mixed, record(ada, "m6", mixed...)); diff != "" {
			t.Error(diff)
		}
		got, err := s.Between(ctx, ada, "2026-11-20", "2026-11-24")
		must(t, err)
		want := []agents.Entry{{Day: "2026-11-22", Project: "mars", Hours: 1}, {Day: "2026-11-23", Project: "deep space", Hours: 3}, {Day: "2026-11-24", Project: "apollo", Hours: 7.75}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		// It is legible, and expires.
		keys, err := c.Keys(ctx, "*hours:{+61491570156}").Result()
		must(t, err)
		if len(keys) != 1 || c.HGet(ctx, keys[0], "2026-11-24 apollo").Val() != "7.75" || c.TTL(ctx, keys[0]).Val() <= 0 {
			t.Errorf("keys %q hold %v for %v", keys, c.HGetAll(ctx, keys[0]).Val(), c.TTL(ctx, keys[0]).Val())
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	each(t, func(t *testing.T, _ redis.UniversalClient, s *conversation.Store) {
		ctx := t.Context()
		for n := range 30 {
			for range 2 {
				must(t, s.Remember(ctx, ada, fmt.Sprintf("sms-%d", n), agents.Turn{At: time.Now(), Text: fmt.Sprintf(`"%d"`, n), Reply: strings.Repeat("ß", 3000)}))
			}
		}
		turns, err := s.Memory(ctx, ada)
		must(t, err)
		if len(turns) != 20 || turns[0].Text != `"10"` || turns[19].Text != `"29"` || len([]rune(turns[0].Reply)) != 1600 {
			t.Errorf("%d turns: %.80v", len(turns), turns)
		}
	})
}

func TestOptOut(t *testing.T) {
	each(t, func(t *testing.T, c redis.UniversalClient, s *conversation.Store) {
		ctx := t.Context()
		must(t, s.OptOut(ctx, ada))
		if out, err := s.OptedOut(ctx, "whatsapp:"+ada); err != nil || !out {
			t.Errorf("%v, %v", out, err)
		}
		if keys := c.Keys(ctx, "*optout*"+ada.Raw()[1:]+"*").Val(); len(keys) > 0 {
			t.Errorf("what is kept for good names the number: %q", keys)
		}
		if changed, err := s.OptIn(ctx, ada); err != nil || !changed {
			t.Errorf("%v, %v", changed, err)
		}
		if out, err := s.OptedOut(ctx, ada); err != nil || out {
			t.Errorf("%v, %v", out, err)
		}
	})
}

func TestIntents(t *testing.T) {
	each(t, func(t *testing.T, _ redis.UniversalClient, s *conversation.Store) {
		ctx := t.Context()
		out := message.Outgoing{Channel: message.ChannelSMS, To: ada, Text: "x", Key: "sms-1/1"}
		// Of many at once, one may attempt.
		var may atomic.Int32
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() {
				if i, err := s.Begin(ctx, out, time.Time{}); err == nil && i.State == conversation.Attempting {
					may.Add(1)
				}
			})
		}
		group.Wait()
		i, err := s.Begin(ctx, out, time.Time{})
		must(t, err)
		if may.Load() != 1 || i.State != conversation.Attempted || time.Since(i.At) > time.Minute {
			t.Fatalf("%d may attempt; %+v", may.Load(), i)
		}
		// Looked up and not found, one may attempt again, after that time only.
		again, err := s.Begin(ctx, out, i.At.Add(-time.Second))
		must(t, err)
		if again.State != conversation.Attempted {
			t.Errorf("looked for another attempt: %+v", again)
		}
		time.Sleep(2 * time.Millisecond) // attempts are told apart by their milliseconds
		again, err = s.Begin(ctx, out, i.At)
		must(t, err)
		if again.State != conversation.Attempting {
			t.Errorf("%+v", again)
		}
		must(t, s.Release(ctx, out))
		if again, err = s.Begin(ctx, out, time.Time{}); err != nil || again.State != conversation.Attempting {
			t.Errorf("%+v, %v", again, err)
		}
		r, err := s.Sent(ctx, out, "sms-1", message.Receipt{SID: "SM1", Status: message.StatusQueued})
		must(t, err)
		if again, err = s.Begin(ctx, out, i.At); err != nil || again.State != conversation.Sent || again.Receipt != r {
			t.Errorf("%+v, %v", again, err)
		}
		if key, err := s.IntentOf(ctx, "SM1"); err != nil || key != out.Key {
			t.Errorf("%q, %v", key, err)
		}
	})
}

func TestStatusOutOfOrder(t *testing.T) {
	each(t, func(t *testing.T, _ redis.UniversalClient, s *conversation.Store) {
		ctx := t.Context()
		out := message.Outgoing{Channel: message.ChannelSMS, To: ada, Text: "x", Key: "sms-2/1"}
		// The callback overtakes the answer to the send.
		for _, r := range []message.Receipt{
			{SID: "SM2", Status: message.StatusUndelivered, ErrorCode: 30003}, {SID: "SM2", Status: message.StatusSent}, {SID: "SM2", Status: message.StatusDelivered},
		} {
			_, err := s.UpdateStatus(ctx, r)
			must(t, err)
		}
		r, err := s.Sent(ctx, out, "sms-2", message.Receipt{SID: "SM2", Status: message.StatusQueued})
		must(t, err)
		if want := (message.Receipt{SID: "SM2", Status: message.StatusUndelivered, ErrorCode: 30003}); r != want {
			t.Errorf("got %+v, want %+v", r, want)
		}
		f, err := s.Message(ctx, "SM2")
		must(t, err)
		if f["status"] != "undelivered" || f["error_code"] != "30003" || f["workflow_id"] != "sms-2" || f["to"] != "+61•••••0156" {
			t.Errorf("%v", f)
		}
	})
}

func TestOutbox(t *testing.T) {
	each(t, func(t *testing.T, _ redis.UniversalClient, s *conversation.Store) {
		ctx, box := t.Context(), s.Outbox()
		out := message.Outgoing{Channel: message.ChannelPage, To: ada, From: "+12025550123", Text: "Recorded \u202e🦄\n\x01", Key: "page-1/1"}
		if found, err := box.Find(ctx, out, time.Time{}); err != nil || len(found) > 0 {
			t.Errorf("%v, %v", found, err)
		}
		r, err := box.Send(ctx, out)
		must(t, err)
		if found, err := box.Find(ctx, out, time.Time{}); err != nil || len(found) != 1 || found[0] != r || !r.Status.Final() {
			t.Errorf("%+v, %v", found, err)
		}
		list, err := box.Messages(ctx, ada)
		must(t, err)
		if len(list) != 1 || list[0].Text != out.Text || list[0].To.Raw() != ada.Raw() {
			t.Errorf("%+v", list)
		}
	})
}

func TestAwait(t *testing.T) {
	each(t, func(t *testing.T, _ redis.UniversalClient, s *conversation.Store) {
		ctx := t.Context()
		must(t, s.Await(ctx, ada, "reminder-1"))
		if ids, err := s.Awaiting(ctx, "whatsapp:"+ada); err != nil || len(ids) != 1 || ids[0] != "reminder-1" {
			t.Errorf("%q, %v", ids, err)
		}
		must(t, s.AwaitNoMore(ctx, ada, "reminder-1"))
		if ids, err := s.Awaiting(ctx, ada); err != nil || len(ids) != 0 {
			t.Errorf("%q, %v", ids, err)
		}
	})
}

func TestZone(t *testing.T) {
	each(t, func(t *testing.T, c redis.UniversalClient, s *conversation.Store) {
		ctx := t.Context()
		if zone, err := s.Zone(ctx, ada); err != nil || zone != "" {
			t.Errorf("%q, %v", zone, err)
		}
		must(t, s.KeepZone(ctx, ada, "Australia/Sydney"))
		must(t, s.KeepZone(ctx, "whatsapp:"+ada, "Australia/Perth"))
		if zone, err := s.Zone(ctx, ada); err != nil || zone != "Australia/Perth" {
			t.Errorf("%q, %v", zone, err)
		}
		if ttl := c.TTL(ctx, c.Keys(ctx, "*person:{*").Val()[0]).Val(); ttl <= 0 {
			t.Errorf("it is kept for %v", ttl)
		}
	})
}

// Somebody who writes now and then does not have every message kept for good.
func TestEachMessageHasItsTime(t *testing.T) {
	each(t, func(t *testing.T, c redis.UniversalClient, _ *conversation.Store) {
		ctx := t.Context()
		prefix := testenv.Prefix(t)
		s := conversation.New(c, conversation.Options{Prefix: prefix, KeepMessages: time.Hour})
		sydney := time.FixedZone("AEDT", 11*3600)
		for n, ago := range []time.Duration{3 * time.Hour, 2 * time.Hour, 30 * time.Minute, 0} {
			must(t, s.Remember(ctx, ada, fmt.Sprintf("sms-%d", n), agents.Turn{At: time.Now().Add(-ago).In(sydney), Text: fmt.Sprintf(`"at":"%d`, n)}))
			if kept := c.LLen(ctx, prefix+":memory:{+61491570156}").Val(); kept != int64(max(0, n-1)) {
				t.Errorf("after %d messages %d are kept", n+1, kept)
			}
		}
		turns, err := s.Memory(ctx, ada)
		if err != nil || len(turns) != 2 || turns[0].Text != `"at":"2` {
			t.Errorf("%+v, %v", turns, err)
		}
		for _, ago := range []time.Duration{2 * time.Hour, 30 * time.Minute} {
			must(t, c.XAdd(ctx, &redis.XAddArgs{Stream: prefix + ":outbox", ID: fmt.Sprintf("%d-0", time.Now().Add(-ago).UnixMilli()), Values: []any{"to", ada.Raw(), "text", ago.String()}}).Err())
		}
		_, err = s.Outbox().Send(ctx, message.Outgoing{To: ada, Text: "new"})
		must(t, err)
		list, err := s.Outbox().Messages(ctx, ada)
		if err != nil || len(list) != 2 || list[0].Text != "30m0s" {
			t.Errorf("%d messages, %v", len(list), err)
		}
	})
}

// What docs/messaging.md shows of redis-cli is what Redis holds.
func TestHoursAreAsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/messaging.md")
	must(t, err)
	each(t, func(t *testing.T, c redis.UniversalClient, _ *conversation.Store) {
		prefix := testenv.Prefix(t)
		s := conversation.New(c, conversation.Options{Prefix: prefix})
		for key, e := range map[string]agents.Entry{
			"page-1": {Day: "2026-11-23", Project: "apollo", Hours: 7.5}, "page-iewnyssnw6tjruuqe5gzyjl4zv": {Day: "2026-11-24", Project: "hera", Hours: 2},
		} {
			_, err := s.Record(t.Context(), "+12025550123", key, []agents.Entry{e})
			must(t, err)
		}
		const hours = "hours:{+12025550123}"
		shown := "> HGETALL " + hours + "\n"
		n := 0
		for field, value := range c.HGetAll(t.Context(), prefix+":"+hours).Val() {
			n++
			if line := fmt.Sprintf(") %q\n", field); !strings.Contains(string(doc), line) || !strings.Contains(string(doc), fmt.Sprintf(") %q\n", value)) {
				t.Errorf("%s is not documented with %s", field, value)
			}
		}
		note := hours + ":noted:page-iewnyssnw6tjruuqe5gzyjl4zv"
		if n != 2 || !strings.Contains(string(doc), shown) {
			t.Errorf("%d fields, and the documentation asks for others", n)
		}
		if text := c.Get(t.Context(), prefix+":"+note).Val(); !strings.Contains(string(doc), fmt.Sprintf("> GET %s\n    %q\n", note, text)) {
			t.Errorf("%q is not documented", text)
		}
	})
}
