package test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// The runcast command, as it is built, shows what a browser would see: every
// frame, byte for byte, and then how the run ended.
func TestWatchShowsTheFrames(t *testing.T) {
	dev := startDev(t)
	binary := build(t, "./cmd/runcast")
	for _, tt := range []struct {
		id    string
		input map[string]any
		exit  int
	}{
		{"good/<one> & {more}", map[string]any{"steps": 5, "step_ms": 100, "output": true}, 0},
		{"bad", map[string]any{"steps": 3, "step_ms": 50, "fail_at": 2}, 1},
	} {
		t.Run(tt.id, func(t *testing.T) {
			watch := launch(t, nil, binary, "watch", tt.id, "--subscriber-url", dev.page)
			reader := bufio.NewReader(openStream(t, dev.page+"/v1/workflows/"+url.PathEscape(tt.id)+"/stream", "").Body)
			first, ok := nextFrame(t, reader)
			if !ok {
				t.Fatal("no frame")
			}
			within(t, 20*time.Second, "a first line", func(context.Context) error {
				if !strings.Contains(watch.output(t), "\n") {
					return errors.New("it says nothing")
				}
				return nil
			})
			dev.run(t, tt.id, tt.input)
			want := append([]streamed{first}, restOf(t, reader)...)
			select {
			case <-watch.exited:
			case <-time.After(20 * time.Second):
				t.Fatalf("it still watches:\n%s", watch.output(t))
			}
			if code := exitCode(watch.err); code != tt.exit {
				t.Errorf("it exits with %d, want %d", code, tt.exit)
			}
			var got []streamed
			for line := range strings.Lines(watch.output(t)) {
				var f struct {
					Event, ID string
					Data      json.RawMessage
				}
				if err := json.Unmarshal([]byte(line), &f); err != nil {
					t.Fatalf("%v: %s", err, line)
				}
				got = append(got, streamed{f.Event, f.ID, string(f.Data)})
			}
			if len(want) < 5 || !slices.Equal(got, want) {
				t.Errorf("it shows\n%+v\nwant\n%+v", got, want)
			}
		})
	}
}

// exitCode returns the code of how a process ended; -1 is none.
func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}
