package redisstore_test

import (
	"fmt"
	"strings"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// scenario is what a golden vector is made from.
type scenario struct {
	name, id string
	steps    []scenarioStep
}

type scenarioStep struct {
	a   redisstore.Append
	del []string // suffixes of keys to delete instead
}

func do(a redisstore.Append) scenarioStep { return scenarioStep{a: a} }

func scenarios() []scenario {
	by := func(name string, n int64, events ...progress.Event) redisstore.Append {
		a := numbered(n, events...)
		a.Producer.Name = name
		return a
	}
	at := func(a redisstore.Append, seconds int) redisstore.Append {
		a.Fence.RunTime = fence("", seconds).RunTime
		return a
	}
	chained := func(a redisstore.Append, chain string) redisstore.Append {
		a.Fence.Chain = chain
		for i := range a.Events {
			a.Events[i].Chain = chain
		}
		return a
	}
	exec := func(a redisstore.Append, started, attempt int, nonce string) redisstore.Append {
		a.Producer.Started, a.Producer.Attempt, a.Producer.Nonce = fence("", started).RunTime, attempt, nonce
		return a
	}
	percent := func(id, run string, p float64) progress.Event {
		return event(id, run, progress.TypeProgress, func(e *progress.Event) {
			current, total := int64(p), int64(100)
			e.Percent, e.Current, e.Total, e.Message = &p, &current, &total, "packing"
		})
	}
	step := func(id, run, name string, status progress.Status, attempt int) progress.Event {
		return event(id, run, progress.TypeStep, func(e *progress.Event) { e.Step, e.Status, e.Attempt = name, status, attempt })
	}
	output := func(id, run, name string, attempt int) progress.Event {
		return event(id, run, progress.TypeOutput, func(e *progress.Event) { e.Step, e.Attempt = name, attempt })
	}
	start := func(id, run string) progress.Event {
		return event(id, run, progress.TypeStarted, func(e *progress.Event) {
			e.WorkflowType, e.Tags = "ProgressiveWorkflow", []string{"customer-7", "größe"}
		})
	}
	closed := func(id, run string, status progress.Status) progress.Event {
		return event(id, run, progress.TypeClosed, func(e *progress.Event) {
			e.Status = status
			if status != progress.StatusCompleted {
				e.Error = "it did not work"
			}
		})
	}
	list := []scenario{
		{"a whole life", "order-42", []scenarioStep{
			do(by("w/r", 1, start("order-42", "r"))),
			do(exec(by("a/r/1", 1, step("order-42", "r", "pack", "running", 1), percent("order-42", "r", 12.5)), 1, 1, "n1")),
			do(exec(by("a/r/1", 3, output("order-42", "r", "pack", 1), logs("order-42", "r", 1)[0], output("order-42", "r", "pack", 1)), 1, 1, "n1")),
			do(exec(by("a/r/1", 6, step("order-42", "r", "pack", "completed", 1), percent("order-42", "r", 100)), 1, 1, "n1")),
			do(by("closed/r", 1, closed("order-42", "r", "completed"))),
			do(by("w/r", 2, logs("order-42", "r", 1)...)),
		}},
		{"repeated, late and lost", "id {1}", []scenarioStep{
			do(by("p", 1, logs("id {1}", "r", 2)...)),
			do(by("p", 1, logs("id {1}", "r", 2)...)),
			do(by("p", 6, logs("id {1}", "r", 2)...)),
			do(by("p", 3, logs("id {1}", "r", 3)...)),
			do(by("p", 8, logs("id {1}", "r", 1)...)),
		}},
		{"runs of one chain, and a zombie", "id", []scenarioStep{
			do(chained(by("w/r1", 1, start("id", "r1"), step("id", "r1", "a", "running", 1), output("id", "r1", "a", 1)), "c")),
			do(chained(at(by("w/r2", 1, logs("id", "r2", 1)...), 2), "c")),
			do(chained(by("w/r1", 4, logs("id", "r1", 1)...), "c")),
			do(chained(at(by("w/r3", 1, logs("id", "r3", 1)...), 0), "c")),
			do(at(by("w/r4", 1, event("id", "r4", "started", nil)), 4)),
		}},
		{"a reset reopens", "id", []scenarioStep{
			do(by("w/r1", 1, start("id", "r1"))),
			do(by("closed/r1", 1, closed("id", "r1", "failed"))),
			do(chained(at(by("w/r2", 1, event("id", "r2", "started", nil)), 2), "r1")),
			do(at(by("w/r2", 1, event("id", "r2", "started", nil)), 2)),
			do(chained(at(by("a/r2/1", 1, logs("id", "r2", 1)...), 2), "r1")),
		}},
		{"queued first", "id", []scenarioStep{
			do(func() redisstore.Append {
				a := by("q/r1", 1, start("id", "r1"))
				a.Events[0].Status, a.Fence.Provisional = progress.StatusQueued, true
				return a
			}()),
			do(by("a/r1/1", 1, step("id", "r1", "a", "queued", 0))),
			do(by("a/r1/1", 2, step("id", "r1", "a", "running", 1), step("id", "r1", "a", "queued", 0))),
			do(by("w/r1", 1, start("id", "r1"))),
		}},
		{"attempts", "id", []scenarioStep{
			do(exec(by("a/r/1", 1, step("id", "r", "a", "running", 1), output("id", "r", "a", 1)), 1, 1, "x")),
			do(exec(by("a/r/1", 1, step("id", "r", "a", "running", 2), output("id", "r", "a", 2)), 2, 2, "y")),
			do(exec(by("a/r/1", 3, logs("id", "r", 1)...), 1, 1, "x")),
			do(exec(by("a/r/1", 1, step("id", "r", "a", "running", 1)), 3, 1, "z")),
			do(exec(by("a/r/1", 3, logs("id", "r", 1)...), 2, 2, "y")),
		}},
		{"the hash is lost", "id", []scenarioStep{
			do(by("p", 1, logs("id", "r", 3)...)), {del: []string{""}}, do(by("p", 4, logs("id", "r", 1)...)),
		}},
		{"the stream is lost", "id", []scenarioStep{
			do(by("p", 1, logs("id", "r", 3)...)), {del: []string{":events"}}, do(by("p", 4, logs("id", "r", 1)...)),
		}},
		{"odd text", "größe \n%", []scenarioStep{
			do(by("p", 1, event("größe \n%", "r", progress.TypeProgress, func(e *progress.Event) {
				e.Message, e.Step = "<b> & \"q\" \\ \u2028 日本語", `","status":"failed"`
			}))),
			do(by("p", 2, step("größe \n%", "r", `","status":"failed"`, "running", 0), output("größe \n%", "r", "", 0))),
		}},
		{"outside Temporal", "id", []scenarioStep{
			do(by("cron job", 1, start("id", ""))), do(by("cron job", 2, percent("id", "", 50))), do(by("cron job", 3, closed("id", "", "completed"))),
		}},
	}
	many := scenario{name: "more steps than are held", id: "id"}
	for i := range 102 {
		status := progress.StatusRunning
		if i%50 == 9 {
			status = progress.StatusCompleted
		}
		many.steps = append(many.steps, do(by("p", int64(i+1), step("id", "r", fmt.Sprint("s", i), status, 1))))
	}
	many.steps = append(many.steps, do(by("p", 103, step("id", "r", strings.Repeat("s", 80), "running", 1))), do(by("p", 104, step("id", "r", "out", "completed", 1))))
	return append(list, many)
}
