package test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/subscriber/page"
)

// module opens the page's server without the page itself, so that runcast.js
// can be imported where nothing else runs.
func module(t *testing.T) context.Context {
	t.Helper()
	server := httptest.NewServer(page.Handler(page.Config{}))
	t.Cleanup(server.Close)
	ctx := browser(t)
	if err := chromedp.Do(ctx, chromedp.Navigate(server.URL+"/config.json")); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// history makes up a stream: several chains and runs under one ID, with all
// types of events, steps beyond the bound, and outputs that open and close.
func history(r *rand.Rand, n int) []progress.Event {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	run, chain := "r0", "c0"
	events := make([]progress.Event, n)
	for i := range events {
		if r.IntN(25) == 0 {
			run = fmt.Sprintf("r%d", i)
			if r.IntN(2) == 0 {
				chain = run
			}
		}
		at = at.Add(time.Duration(r.IntN(5000)) * time.Millisecond)
		e := progress.Event{
			Epoch: 1700000000000, Seq: int64(i + 1), Check: fmt.Sprintf("%08x", r.Uint32()),
			WorkflowID: "w/ü 1", RunID: run, Chain: chain, Time: at,
			Step:    pick("", "pack", "\U0001F600", "\uFFFDz", fmt.Sprintf("s%d", r.IntN(150))),
			Attempt: r.IntN(3), Message: pick("", "<b>", "m"),
		}
		if r.IntN(3) == 0 {
			p := float64(r.IntN(1001)) / 10
			e.Percent = &p
		}
		if r.IntN(3) == 0 {
			c, all := int64(r.IntN(10)), int64(10)
			e.Current, e.Total = &c, &all
		}
		if r.IntN(12) == 0 {
			e.Tags = []string{pick("a", "b")}
		}
		if r.IntN(9) == 0 {
			e.WorkflowType = pick("Order", "Import")
		}
		switch e.Type = progress.EventType(pick("started", "progress", "step", "step", "step", "step", "log", "output", "output", "closed")); e.Type {
		case progress.TypeStarted:
			e.Status = progress.Status(pick("queued", "running"))
		case progress.TypeStep:
			e.Status = progress.Status(pick("queued", "running", "running", "completed", "failed"))
			e.Step = pick("pack", fmt.Sprintf("s%d", r.IntN(150)))
			e.Error = pick("", "", "broken")
		case progress.TypeOutput:
			e.Data = json.RawMessage(`"text"`)
		case progress.TypeClosed:
			e.Status = progress.Status(pick("completed", "failed", "timed_out", "unknown"))
			e.Error = pick("", "why")
		}
		events[i] = e
	}
	return events
}

// The page folds events as pkg/progress does, at every point of a history.
func TestPageFoldsLikeTheServers(t *testing.T) {
	ctx := module(t)
	for seed := range uint64(12) {
		events := history(rand.New(rand.NewPCG(seed, 42)), 400)
		text, err := json.Marshal(events)
		if err != nil {
			t.Fatal(err)
		}
		folds := eval[[]json.RawMessage](t, ctx, `import("/runcast.js").then(({ fold, emptySnapshot }) => {
			let s = emptySnapshot();
			return `+string(text)+`.map((e) => (s = fold(s, e)));
		})`)
		if len(folds) != len(events) {
			t.Fatalf("%d folds of %d events", len(folds), len(events))
		}
		var want progress.Snapshot
		for i := range events {
			if err := want.Apply(&events[i]); err != nil {
				t.Fatal(err)
			}
			var got progress.Snapshot
			if err := json.Unmarshal(folds[i], &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(normal(t, want), normal(t, got)); diff != "" {
				t.Fatalf("seed %d, event %d %+v (-Go +JavaScript):\n%s", seed, i+1, events[i], diff)
			}
		}
	}
}

// normal is the wire form, in which nothing and empty are the same.
func normal(t *testing.T, s progress.Snapshot) map[string]any {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestPageFoldRefusesWhatIsNotNext(t *testing.T) {
	ctx := module(t)
	got := eval[[]bool](t, ctx, `import("/runcast.js").then(({ fold, emptySnapshot }) => {
		const event = (epoch, seq) => ({ epoch, seq, check: "00000000", workflow_id: "w", run_id: "r", chain: "r", type: "log", time: "2026-01-02T03:04:05Z" });
		const first = fold(emptySnapshot(), event(1, 1));
		return [event(1, 1), event(1, 3), event(2, 2), event(1, 2)].map((e) => fold(first, e) === null);
	})`)
	if want := []bool{true, true, true, false}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("refused %v, want %v", got, want)
	}
}

// The golden vectors, which hold every implementation of the fold to one
// meaning: here to the wire form, field by field.
func TestPageFoldsTheGoldenVectors(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "pkg/redisstore/testdata/vectors/fold.json"))
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Name     string         `json:"name"`
		Events   []string       `json:"events"`
		Snapshot map[string]any `json:"snapshot"`
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) < 5 {
		t.Fatalf("only %d vectors", len(vectors))
	}
	ctx := module(t)
	folded := eval[[]map[string]any](t, ctx, `import("/runcast.js").then(({ fold, emptySnapshot }) =>
		`+string(text)+`.map((vector) => vector.events.reduce((s, e) => fold(s, JSON.parse(e)), emptySnapshot())))`)
	for i, v := range vectors {
		if diff := cmp.Diff(v.Snapshot, folded[i]); diff != "" {
			t.Errorf("%s (-vector +page):\n%s", v.Name, diff)
		}
	}
}
