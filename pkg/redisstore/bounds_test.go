package redisstore_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// Go refuses what is too long before it sends it, the script whoever sends it.
func TestEventsAreBounded(t *testing.T) {
	// of returns events of n bytes of JSON each.
	of := func(events, n int) redisstore.Append {
		e := event("id", "r", progress.TypeLog, func(e *progress.Event) { e.Message = "x" })
		body, err := e.AppendBody(nil)
		if err != nil {
			t.Fatal(err)
		}
		e.Message = strings.Repeat("x", n-len(body)+1)
		a := redisstore.Append{WorkflowID: "id", Fence: fence("r", 1)}
		for range events {
			a.Events = append(a.Events, e)
		}
		return a
	}
	step := func(name, message int) redisstore.Append {
		return redisstore.Append{WorkflowID: "id", Fence: fence("r", 1), Events: []progress.Event{event("id", "r", progress.TypeStep, func(e *progress.Event) {
			e.Step, e.Message = strings.Repeat("s", name), strings.Repeat("m", message)
		})}}
	}
	state := len(`{"status":"running","message":"","time":"2026-11-23T01:02:03.456789Z"}`)
	const most, events = redisstore.MaxEventBytes, redisstore.MaxAppendBytes / redisstore.MaxEventBytes
	for name, tt := range map[string]struct {
		longest, longer redisstore.Append
		bound           int
		// longest, made longer behind Go's back
		spoil func(args []any) []any
	}{
		"an event": {of(1, most), of(1, most+1), most, func(args []any) []any {
			body := args[6].([]byte)
			args[6] = append(body[:len(body)-1:len(body)-1], " }"...)
			return args
		}},
		"all events": {of(events, most), of(events*2, most/2+1), redisstore.MaxAppendBytes, func(args []any) []any {
			return append(args, args[5:7]...)
		}},
		"the name of a step": {step(redisstore.MaxStepBytes, 1), step(redisstore.MaxStepBytes+1, 1), redisstore.MaxStepBytes, func(args []any) []any {
			args[7] = args[7].(string) + "s"
			return args
		}},
		"the state of a step": {step(1, redisstore.MaxStateBytes-state), step(1, redisstore.MaxStateBytes-state+1), redisstore.MaxStateBytes, func(args []any) []any {
			args[8] = args[8].(string) + " "
			return args
		}},
	} {
		t.Run(name, func(t *testing.T) {
			contract(t, redisstore.Options{}, func(t *testing.T, h *harness) {
				h.append(t, tt.longest)
				before := h.stored(t, "id")
				_, err := h.store.Append(t.Context(), tt.longer)
				if !errors.Is(err, progress.ErrInvalid) || !strings.Contains(err.Error(), fmt.Sprint(tt.bound)) {
					t.Errorf("want an error that names the bound, got %v", err)
				}
				args, err := h.another(t, h.opts).AppendArgs(tt.longest, t0)
				if err != nil {
					t.Fatal(err)
				}
				args = tt.spoil(args)
				if h.sharded {
					args[0] = shardedPublish(args[0].(string))
				}
				keys := []string{h.key("id", ""), h.key("id", ":events"), h.key("id", ":producers")}
				answer, err := h.client.Eval(t.Context(), redisstore.AppendSource, keys, args...).StringSlice()
				if err != nil || answer[0] != "INVALID" || !strings.Contains(answer[1], fmt.Sprint(tt.bound)) {
					t.Errorf("the script answers %q, %v", answer, err)
				}
				if after := h.stored(t, "id"); !reflect.DeepEqual(before, after) {
					t.Error("what was refused wrote something")
				}
			})
		})
	}
}
