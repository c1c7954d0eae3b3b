package subscriber_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/subscriber"
)

// Large events come on pages that are short, and all of them come.
func TestEventsPageIsBoundedInBytes(t *testing.T) {
	n := start(t)
	r := newRun(t, n.store, "w", "run")
	const large, small = 40, 300
	text := strings.Repeat("x", 250<<10)
	for range large {
		r.log(text)
	}
	for range small {
		r.log("x")
	}
	after, seq := "", int64(0)
	var sizes []int
	for more := true; more; {
		res, _ := get(t, n.url+"/v1/workflows/w/events?limit=1000&after="+after)
		var page struct {
			Events []json.RawMessage
			Next   string
			More   bool
		}
		if err := json.NewDecoder(res.Body).Decode(&page); err != nil {
			t.Fatalf("%s: %v", res.Status, err)
		}
		size := 0
		for _, data := range page.Events {
			e, err := progress.DecodeEvent(data)
			if seq++; err != nil || e.Seq != seq {
				t.Fatalf("seq %d, %v, want %d", e.Seq, err, seq)
			}
			size += len(data)
		}
		if len(page.Events) == 0 || size > subscriber.MaxEventsBytes {
			t.Fatalf("%d events of %d bytes on a page", len(page.Events), size)
		}
		sizes = append(sizes, len(page.Events))
		after, more = page.Next, page.More
	}
	if seq != large+small {
		t.Errorf("%d events, want %d", seq, large+small)
	}
	if got := fmt.Sprint(sizes); got != "[16 16 308]" {
		t.Errorf("pages of %s events", got)
	}
}

// An event that is larger than a page has one of its own.
func TestEventsPageHasOneEventAtLeast(t *testing.T) {
	n := start(t)
	r := newRun(t, n.store, "w", "run")
	for range 3 {
		r.log("x")
	}
	// Redis takes none that is so large; spaces are no part of the event.
	read := func(ctx context.Context, id string, from int64, limit int) (progress.View, error) {
		view, err := n.store.Read(ctx, id, from, limit)
		for i, e := range view.Events {
			if e.Seq == 2 {
				view.Events[i].Data = append(bytes.Repeat([]byte(" "), subscriber.MaxEventsBytes), e.Data...)
			}
		}
		return view, err
	}
	var after progress.Position
	for seq := int64(1); seq <= 3; seq++ {
		page, gone, err := subscriber.ReadPage(t.Context(), read, "w", after, 10)
		if err != nil || gone != "" || len(page.Events) != 1 || page.More != (seq < 3) {
			t.Fatalf("%d events, more %v, %q, %v", len(page.Events), page.More, gone, err)
		}
		if after, err = progress.ParsePosition(page.Next); err != nil || after.Seq != seq {
			t.Fatalf("next is %s, want seq %d", page.Next, seq)
		}
	}
}

// What happens to the stream in the midst of a page is learned by who asks
// for the next one.
func TestEventsPageOfAStreamThatChanges(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, r *run, admin *redis.Client, key string)
		gone   string
		err    error
	}{
		{"lost", func(t *testing.T, _ *run, admin *redis.Client, key string) {
			drop(t, admin, key, key+":events")
		}, "", progress.ErrNotFound},
		{"anew", func(t *testing.T, r *run, admin *redis.Client, key string) {
			drop(t, admin, key, key+":events")
			r.log("anew")
		}, "another epoch", nil},
		{"trimmed", func(t *testing.T, _ *run, admin *redis.Client, key string) {
			if err := admin.XTrimMaxLen(t.Context(), key+":events", 10).Err(); err != nil {
				t.Fatal(err)
			}
		}, "trimmed", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := start(t)
			r := newRun(t, n.store, "w", "run")
			for range subscriber.EventsRead + 50 {
				r.log("x")
			}
			admin := adminClient(t, n.redis)
			reads := 0
			read := func(ctx context.Context, id string, from int64, limit int) (progress.View, error) {
				if reads++; reads == 2 {
					tt.change(t, r, admin, n.prefix+":workflow:{w}")
				}
				return n.store.Read(ctx, id, from, limit)
			}
			page, gone, err := subscriber.ReadPage(t.Context(), read, "w", progress.Position{}, 1000)
			if err != nil || gone != "" || len(page.Events) != subscriber.EventsRead || !page.More {
				t.Fatalf("%d events, more %v, %q, %v", len(page.Events), page.More, gone, err)
			}
			next, err := progress.ParsePosition(page.Next)
			if err != nil || next.Seq != subscriber.EventsRead {
				t.Fatalf("next is %s, %v", page.Next, err)
			}
			_, gone, err = subscriber.ReadPage(t.Context(), read, "w", next, 1000)
			if !strings.Contains(gone, tt.gone) || (gone == "") != (tt.gone == "") || !errors.Is(err, tt.err) {
				t.Errorf("the next page: %q, %v", gone, err)
			}
		})
	}
}

func drop(t *testing.T, admin *redis.Client, keys ...string) {
	t.Helper()
	if err := admin.Del(t.Context(), keys...).Err(); err != nil {
		t.Fatal(err)
	}
}
