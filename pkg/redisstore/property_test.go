package redisstore_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// anyAppend draws a batch of events of one of a few runs, with few steps and
// attempts, so that they meet, and text of all kinds.
func anyAppend(rt *rapid.T, id string, run int) redisstore.Append {
	text := rapid.OneOf(rapid.Just(""), rapid.String(), rapid.Just("\xff\xfe<&>\u2028\"\\"), rapid.Just(`","status":"failed"`))
	chain := fmt.Sprint("chain-", run/2)
	name := fmt.Sprint("run-", run)
	a := redisstore.Append{WorkflowID: id, Fence: redisstore.Fence{RunID: name, Chain: chain, RunTime: t0.Add(time.Duration(run) * time.Second)}}
	statuses := []progress.Status{"queued", "running", "running", "completed", "failed", "canceled", "terminated", "timed_out", "unknown"}
	optional := func(label string) *int64 {
		return rapid.Ptr(rapid.Int64Range(-5, 1<<53), true).Draw(rt, label)
	}
	for range rapid.IntRange(1, 8).Draw(rt, "events") {
		e := progress.Event{WorkflowID: id, RunID: name, Chain: chain}
		e.Type = rapid.SampledFrom([]progress.EventType{"started", "progress", "step", "step", "log", "output", "output"}).Draw(rt, "type")
		e.Time = t0.Add(time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(rt, "time")))
		e.Step = rapid.SampledFrom([]string{"a", "b", "c", "{d}\n%", "\xff"}).Draw(rt, "step")
		e.Attempt = rapid.IntRange(0, 3).Draw(rt, "attempt")
		e.Message, e.Error = text.Draw(rt, "message"), text.Draw(rt, "error")
		switch e.Type {
		case "started":
			e.Status = rapid.SampledFrom(statuses[:2]).Draw(rt, "status")
			e.WorkflowType = text.Draw(rt, "workflow type")
			e.Tags = rapid.SliceOfN(rapid.SampledFrom([]string{"t1", "t2", "ü\""}), 0, 3).Draw(rt, "tags")
		case "step":
			e.Status = rapid.SampledFrom(statuses).Draw(rt, "status")
			fallthrough
		case "progress":
			if rapid.Bool().Draw(rt, "has percent") {
				p := rapid.OneOf(rapid.Float64Range(0, 100), rapid.SampledFrom([]float64{0, 100, 1e-9, 33.333333333333336, math.SmallestNonzeroFloat64})).Draw(rt, "percent")
				e.Percent = &p
			}
			e.Current, e.Total = optional("current"), optional("total")
			if e.Type == "progress" && rapid.Bool().Draw(rt, "no step") {
				e.Step = ""
			}
		case "output":
			e.Data, _ = json.Marshal(text.Draw(rt, "data"))
		case "log":
			e.Data = rapid.SampledFrom([]json.RawMessage{nil, []byte(`{"a": [1, 2]}`), []byte("null")}).Draw(rt, "data")
		}
		a.Events = append(a.Events, e)
	}
	if rapid.IntRange(0, 9).Draw(rt, "closes") == 0 {
		a.Events = append(a.Events, progress.Event{
			WorkflowID: id, RunID: name, Chain: chain, Type: "closed", Time: t0,
			Status: rapid.SampledFrom(statuses[3:]).Draw(rt, "end"), Error: text.Draw(rt, "error"),
		})
	}
	return a
}

// The script's fold on the hash and the Go fold of the stream agree, whatever
// is written.
func TestFoldOfTheStreamIsTheHash(t *testing.T) {
	contract(t, redisstore.Options{MaxLen: -1}, func(t *testing.T, h *harness) {
		n := 0
		rapid.Check(t, func(rt *rapid.T) {
			n++
			id := "id-" + strconv.Itoa(n)
			run := 0
			for range rapid.IntRange(1, 12).Draw(rt, "appends") {
				if rapid.IntRange(0, 4).Draw(rt, "next run") == 0 {
					run++
				}
				a := anyAppend(rt, id, run)
				// A closed chain refuses the rest of its own; that is fine.
				if _, err := h.store.Append(t.Context(), a); err != nil {
					run += 2
				}
			}
			h.events(t, id)
		})
	})
}

// More steps and outputs than the snapshot holds.
func TestFoldBounds(t *testing.T) {
	contract(t, redisstore.Options{MaxLen: -1}, func(t *testing.T, h *harness) {
		var n int64
		write := func(e progress.Event) {
			n++
			h.append(t, numbered(n, e))
		}
		step := func(name string, status progress.Status) progress.Event {
			return event("id", "r", progress.TypeStep, func(e *progress.Event) { e.Step, e.Status, e.Attempt = name, status, 1 })
		}
		for i := range progress.DefaultMaxSteps {
			write(step(fmt.Sprint("s", i), "running"))
			write(event("id", "r", progress.TypeOutput, func(e *progress.Event) { e.Step, e.Attempt = fmt.Sprint("s", i), 1 }))
		}
		write(step("left out", "running"))
		write(event("id", "r", progress.TypeOutput, func(e *progress.Event) { e.Step = "left out too" }))
		for _, i := range []int{7, 3, 50} {
			write(step(fmt.Sprint("s", i), "completed"))
		}
		write(step("takes the place of 7", "queued"))
		write(step("takes the place of 3", "running"))
		// In one batch, where the script sees its own changes.
		n++
		h.append(t, numbered(n, step("takes the place of 50", "failed"), step("takes the place of that", "completed"), step("s0", "completed"), step("and of that", "running")))
		n += 3
		h.events(t, "id")
		s, err := h.store.Snapshot(t.Context(), "id")
		if err != nil || len(s.Steps) != progress.DefaultMaxSteps || s.StepsOmitted != 6 {
			t.Fatalf("%d steps, %d omitted, %v", len(s.Steps), s.StepsOmitted, err)
		}
		write(event("id", "r", progress.TypeClosed, nil))
		h.events(t, "id")
	})
}
