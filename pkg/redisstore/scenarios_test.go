package redisstore_test

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// scenario is what a golden vector is made from.
type scenario struct {
	name, id string
	steps    []scenarioStep
	opts     redisstore.Options
}

// scenarioStep is an append, unless it is a command or a leave.
type scenarioStep struct {
	a       redisstore.Append
	spoil   func(*scriptStep)          // changes what Go would send
	earlier bool                       // its candidate epoch is the first step's
	command func(base string) []string // base is the hash's key
	leave   redisstore.Producer
}

func do(a redisstore.Append) scenarioStep { return scenarioStep{a: a} }

func command(name, suffix string, args ...string) scenarioStep {
	return scenarioStep{command: func(base string) []string { return append([]string{name, base + suffix}, args...) }}
}

func leave(name string, started, attempt int, nonce string) scenarioStep {
	return scenarioStep{leave: redisstore.Producer{Name: name, Started: fence("", started).RunTime, Attempt: attempt, Nonce: nonce}}
}

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
	provisional := func(a redisstore.Append) redisstore.Append {
		a.Fence.Provisional, a.Events[0].Status = true, progress.StatusQueued
		return a
	}
	sparse := func(a redisstore.Append) redisstore.Append { a.Producer.Sparse = true; return a }
	first := do(by("p", 1, logs("id", "r", 1)...))
	earlier := scenarioStep{a: by("p", 4, logs("id", "r", 1)...), earlier: true}
	spoiled := func(spoil func(s *scriptStep)) scenarioStep {
		return scenarioStep{a: by("p", 2, step("id", "r", "a", "running", 1)), spoil: spoil}
	}
	arg := func(place int, value string) scenarioStep {
		return spoiled(func(s *scriptStep) { s.Argv[place-1] = value })
	}
	// word changes one of an argument's words.
	word := func(arg, place int, value string) scenarioStep {
		return spoiled(func(s *scriptStep) {
			words := strings.Split(s.Argv[arg-1], " ")
			words[place-1] = value
			s.Argv[arg-1] = strings.Join(words, " ")
		})
	}
	const options, head = 1, 6
	ended := func(spoil func(s *scriptStep)) scenarioStep {
		return scenarioStep{a: by("p", 2, closed("id", "r", "completed")), spoil: spoil}
	}
	epoch := strconv.FormatInt(t0.UnixMilli(), 10)
	after := strconv.FormatInt(t0.UnixMilli()+1, 10)
	list := []scenario{
		{"a whole life", "order-42", []scenarioStep{
			do(by("w/r", 1, start("order-42", "r"))),
			do(exec(by("a/r/1", 1, step("order-42", "r", "pack", "running", 1), percent("order-42", "r", 12.5)), 1, 1, "n1")),
			do(exec(by("a/r/1", 3, output("order-42", "r", "pack", 1), logs("order-42", "r", 1)[0], output("order-42", "r", "pack", 1)), 1, 1, "n1")),
			do(exec(by("a/r/1", 6, step("order-42", "r", "pack", "completed", 1), percent("order-42", "r", 100)), 1, 1, "n1")),
			do(by("closed/r", 1, closed("order-42", "r", "completed"))),
			do(by("w/r", 2, logs("order-42", "r", 1)...)),
		}, redisstore.Options{}},
		{"repeated, late and lost", "id {1}", []scenarioStep{
			do(by("p", 1, logs("id {1}", "r", 2)...)),
			do(by("p", 1, logs("id {1}", "r", 2)...)),
			do(by("p", 6, logs("id {1}", "r", 2)...)),
			do(by("p", 3, logs("id {1}", "r", 3)...)),
			do(by("p", 8, logs("id {1}", "r", 1)...)),
		}, redisstore.Options{}},
		{"runs of one chain, and a zombie", "id", []scenarioStep{
			do(chained(by("w/r1", 1, start("id", "r1"), step("id", "r1", "a", "running", 1), output("id", "r1", "a", 1)), "c")),
			do(chained(at(by("w/r2", 1, logs("id", "r2", 1)...), 2), "c")),
			do(chained(by("w/r1", 4, logs("id", "r1", 1)...), "c")),
			do(chained(at(by("w/r3", 1, logs("id", "r3", 1)...), 0), "c")),
			do(at(by("w/r4", 1, event("id", "r4", "started", nil)), 4)),
		}, redisstore.Options{}},
		{"a reset reopens", "id", []scenarioStep{
			do(by("w/r1", 1, start("id", "r1"))),
			do(by("closed/r1", 1, closed("id", "r1", "failed"))),
			do(chained(at(by("w/r2", 1, event("id", "r2", "started", nil)), 2), "r1")),
			do(at(by("w/r2", 1, event("id", "r2", "started", nil)), 2)),
			do(chained(at(by("a/r2/1", 1, logs("id", "r2", 1)...), 2), "r1")),
		}, redisstore.Options{}},
		{"queued first", "id", []scenarioStep{
			do(func() redisstore.Append {
				a := by("q/r1", 1, start("id", "r1"))
				a.Events[0].Status, a.Fence.Provisional = progress.StatusQueued, true
				return a
			}()),
			do(by("a/r1/1", 1, step("id", "r1", "a", "queued", 0))),
			do(by("a/r1/1", 2, step("id", "r1", "a", "running", 1), step("id", "r1", "a", "queued", 0))),
			do(by("w/r1", 1, start("id", "r1"))),
		}, redisstore.Options{}},
		{"attempts", "id", []scenarioStep{
			do(exec(by("a/r/1", 1, step("id", "r", "a", "running", 1), output("id", "r", "a", 1)), 1, 1, "x")),
			do(exec(by("a/r/1", 1, step("id", "r", "a", "running", 2), output("id", "r", "a", 2)), 2, 2, "y")),
			do(exec(by("a/r/1", 3, logs("id", "r", 1)...), 1, 1, "x")),
			do(exec(by("a/r/1", 1, step("id", "r", "a", "running", 1)), 3, 1, "z")),
			do(exec(by("a/r/1", 3, logs("id", "r", 1)...), 2, 2, "y")),
		}, redisstore.Options{}},
		{"the hash is lost", "id", []scenarioStep{
			do(by("p", 1, logs("id", "r", 3)...)), command("DEL", ""), do(by("p", 4, logs("id", "r", 1)...)),
		}, redisstore.Options{}},
		{"the stream is lost", "id", []scenarioStep{
			do(by("p", 1, logs("id", "r", 3)...)), command("DEL", ":events"), do(by("p", 4, logs("id", "r", 1)...)),
		}, redisstore.Options{}},
		{"odd text", "größe \n%", []scenarioStep{
			do(by("p", 1, event("größe \n%", "r", progress.TypeProgress, func(e *progress.Event) {
				e.Message, e.Step = "<b> & \"q\" \\ \u2028 日本語", `","status":"failed"`
			}))),
			do(by("p", 2, step("größe \n%", "r", `","status":"failed"`, "running", 0), output("größe \n%", "r", "", 0))),
		}, redisstore.Options{}},
		{"more producers than are held, and marks", "id", []scenarioStep{
			do(exec(by("a/r/1", 1, logs("id", "r", 1)...), 1, 1, "n")), do(by("program", 1, logs("id", "r", 1)...)), do(by("a/r/3", 1, logs("id", "r", 1)...)),
			leave("a/r/1", 2, 1, "n"), leave("a/r/1", 1, 1, "n"), leave("a/r/1", 1, 1, "n"), leave("nobody", 0, 0, ""),
			do(exec(by("a/r/1", 1, logs("id", "r", 1)...), 1, 1, "n")), do(by("a/r/3", 1, logs("id", "r", 1)...)), do(by("a/r/4", 1, logs("id", "r", 1)...)),
			leave("program", 0, 0, ""), do(by("program", 1, logs("id", "r", 1)...)),
		}, redisstore.Options{MaxProducers: 2}},
		{"producers take turns", "id", []scenarioStep{
			do(exec(by("a/r/1", 1, logs("id", "r", 2)...), 1, 1, "n")), do(by("w/r", 1, logs("id", "r", 1)...)),
			do(exec(by("a/r/1", 1, logs("id", "r", 2)...), 1, 1, "n")), do(by("w/r", 1, logs("id", "r", 1)...)),
			do(exec(by("a/r/1", 3, logs("id", "r", 1)...), 1, 1, "n")), do(redisstore.Append{WorkflowID: "id", Fence: fence("r", 1), Events: logs("id", "r", 1)}),
			do(exec(by("a/r/1", 3, logs("id", "r", 1)...), 1, 1, "n")), do(by("w/r", 3, logs("id", "r", 1)...)),
		}, redisstore.Options{}},
		{"who wrote last leaves", "id", []scenarioStep{
			do(exec(by("a/r/1", 1, logs("id", "r", 2)...), 1, 1, "n")), leave("a/r/1", 1, 2, "n"), leave("a/r/1", 1, 1, "n"), leave("a/r/1", 1, 1, "n"),
			do(exec(by("a/r/1", 1, logs("id", "r", 2)...), 1, 1, "n")), do(exec(by("a/r/1", 1, logs("id", "r", 1)...), 2, 1, "m")), leave("a/r/1", 1, 1, "n"),
			do(by("program", 1, logs("id", "r", 1)...)), leave("program", 0, 0, ""), do(by("program", 1, logs("id", "r", 1)...)),
		}, redisstore.Options{}},
		{"a new run clears the producers of older ones", "id", []scenarioStep{
			do(by("a/r/1", 1, logs("id", "r", 1)...)), do(by("closed/r", 1, logs("id", "r", 1)...)), do(by("program", 1, logs("id", "r", 1)...)),
			do(at(by("w/r2", 1, logs("id", "r2", 1)...), 2)),
		}, redisstore.Options{}},
		{"sparse numbers", "id", []scenarioStep{
			do(sparse(by("w/r", 4001, logs("id", "r", 1)...))), do(sparse(by("w/r", 5000, logs("id", "r", 2)...))), do(sparse(by("w/r", 5001, logs("id", "r", 1)...))),
		}, redisstore.Options{}},
		{"queued notes that are refused", "id", []scenarioStep{
			do(at(by("w/r1", 1, start("id", "r1")), 2)),
			do(provisional(at(by("q/r2", 1, start("id", "r2")), 4))),
			do(provisional(at(by("q/r0", 1, start("id", "r0")), 1))),
			do(provisional(at(by("q/r1", 1, start("id", "r1")), 1))),
			do(by("closed/r1", 1, closed("id", "r1", "terminated"))),
			do(provisional(at(by("q/r1", 1, start("id", "r1")), 9))),
			do(provisional(at(by("q/r2", 1, start("id", "r2")), 4))),
		}, redisstore.Options{}},
		{"wrong arguments", "id", []scenarioStep{
			first,
			spoiled(func(s *scriptStep) { s.Argv = s.Argv[:len(s.Argv)-1] }), spoiled(func(s *scriptStep) { s.Argv = s.Argv[:5] }),
			spoiled(func(s *scriptStep) { s.Argv = append(s.Argv, "more") }), spoiled(func(s *scriptStep) { s.Argv[6] = "" }),
			spoiled(func(s *scriptStep) { s.Keys = s.Keys[:2] }), spoiled(func(s *scriptStep) { s.Keys = []string{s.Keys[0], s.Keys[2], s.Keys[1]} }),
			word(options, 1, "GET"), word(options, 2, "0"), word(options, 3, "0"), word(options, 4, "-1"), word(options, 5, "1e3"), word(options, 6, ""),
			word(options, 7, "100000000000000"), word(options, 8, "true"), word(options, 9, "1.5"), word(options, 12, ""), word(options, 12, "a b"), word(options, 13, ""),
			arg(2, ""), arg(head, "step sj"), arg(head+1, "[]"), arg(head+2, ""), arg(head+3, "running"),
			word(head, 1, "finished"), word(head, 2, "js"), word(head, 2, "x"), word(head, 2, "s"), word(head, 2, "-"), word(head, 3, "first"), word(head, 4, ""),
			ended(func(s *scriptStep) { s.Argv[head-1] = strings.Replace(s.Argv[head-1], "completed", "running", 1) }),
			ended(func(s *scriptStep) { s.Argv[head-1] = strings.Replace(s.Argv[head-1], " - -", " -", 1) }),
			ended(func(s *scriptStep) { s.Argv = append(s.Argv, s.Argv[head-1:]...); s.Argv[head-1] += " -" }),
			do(chained(by("p", 2, logs("id", "r", 1)...), "c")), do(by("p", 2, logs("id", "", 1)...)),
			command("HSET", ":producers", "p", "1 1"), do(by("p", 2, logs("id", "r", 1)...)),
			command("HSET", ":producers", "p", "one"), do(by("p", 2, logs("id", "r", 1)...)),
			command("DEL", ":producers"), do(at(by("p", 2, logs("id", "r2", 1)...), 0)),
		}, redisstore.Options{}},
		{"another chain for the same run", "id", []scenarioStep{
			do(chained(by("p", 1, logs("id", "r", 1)...), "c")), do(chained(by("p", 2, logs("id", "r", 1)...), "d")),
		}, redisstore.Options{}},
		{"trimmed, and where the stream begins", "id", []scenarioStep{
			do(by("p", 1, logs("id", "r", 62)...)), command("XTRIM", ":events", "MAXLEN", "10"), do(by("p", 63, logs("id", "r", 4)...)),
		}, redisstore.Options{MaxLen: 60}},
		{"a new epoch is none that was: the hash is lost", "id", []scenarioStep{
			do(by("p", 1, logs("id", "r", 3)...)), command("DEL", ""), earlier,
		}, redisstore.Options{}},
		{"a new epoch is none that was: two histories of one length", "id", []scenarioStep{
			do(by("p", 1, logs("id", "r", 3)...)), command("HSET", "", "epoch", after), earlier,
		}, redisstore.Options{}},
		{"two histories of one epoch and length", "id", []scenarioStep{
			do(by("p", 1, logs("id", "r", 3)...)), command("HSET", "", "check", "01234567"), earlier,
		}, redisstore.Options{}},
		{"two histories of different length", "id", []scenarioStep{
			do(by("p", 1, logs("id", "r", 3)...)), command("XDEL", ":events", "3-0"), earlier,
		}, redisstore.Options{}},
		{"later entries were taken away", "id", []scenarioStep{
			do(by("p", 1, logs("id", "r", 3)...)), command("XADD", ":events", "9-0", "e", `{"epoch":`+epoch+`,"seq":9}`), command("XDEL", ":events", "9-0"),
			do(by("p", 4, logs("id", "r", 3)...)),
		}, redisstore.Options{}},
		{"a program that runs every night", "id", []scenarioStep{
			do(exec(by("backup.sh", 1, start("id", "2026-11-23"), closed("id", "2026-11-23", "completed")), 1, 0, "")),
			do(exec(at(by("backup.sh", 1, start("id", "2026-11-24")), 2), 2, 0, "")),
			do(exec(by("backup.sh", 3, logs("id", "2026-11-23", 1)...), 1, 0, "")),
		}, redisstore.Options{}},
		{"outside Temporal", "id", []scenarioStep{
			do(by("cron job", 1, start("id", ""))), do(by("cron job", 2, percent("id", "", 50))), do(by("cron job", 3, closed("id", "", "completed"))),
		}, redisstore.Options{}},
	}
	full := scenario{name: "a full snapshot makes room within one batch", id: "id"}
	var fill []progress.Event
	for i := range 100 {
		fill = append(fill, step("id", "r", fmt.Sprint("s", i), "running", 1))
	}
	full.steps = []scenarioStep{do(by("p", 1, fill...)), do(by("p", 101,
		step("id", "r", "left out", "running", 1), step("id", "r", "s7", "completed", 1), step("id", "r", "in", "completed", 1),
		step("id", "r", "in again", "queued", 0), step("id", "r", "left out too", "running", 1)))}
	list = append(list, full)
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
