package test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/runcast/runcast/internal/settings"
)

// defaults are the addresses of cmd/dev by the flag that sets them; the
// README names them.
var defaults = map[string]string{
	"--subscriber-addr": "127.0.0.1:8080", "--api-addr": "127.0.0.1:8081", "--worker-addr": "127.0.0.1:8082",
	"--temporal-addr": "127.0.0.1:7233", "--temporal-ui-addr": "127.0.0.1:8233", "--redis-addr": "127.0.0.1:6380",
}

// commands returns the lines of a text that begin with the word, with their
// columns closed up.
func commands(text, word string) (lines []string) {
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == word {
			lines = append(lines, strings.Join(words, " "))
		}
	}
	return lines
}

// checkReadme holds the commands that the program prints against those that
// the README has: who reads one and pastes the other gets the same.
func checkReadme(t *testing.T, dev *devServer) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	printed := dev.output(t)
	for flag, addr := range dev.addrs() {
		printed = strings.ReplaceAll(printed, addr, defaults[flag])
	}
	_, port, err := net.SplitHostPort(dev.redis)
	if err != nil {
		t.Fatal(err)
	}
	printed = strings.ReplaceAll(printed, "-p "+port+" ", "-p 6380 ")
	// The README goes on where the program has said enough.
	for word, said := range map[string]int{"curl": 3, "redis-cli": 1} {
		got, want := commands(printed, word), commands(string(text), word)
		if len(want) <= said || !slices.Equal(got, want[:said]) {
			t.Errorf("it prints\n%s\nand the README has\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	for flag, addr := range defaults {
		short := strings.TrimPrefix(addr, "127.0.0.1:")
		if flag != "--worker-addr" && !strings.Contains(string(text), short) {
			t.Errorf("the README does not say where %s is by itself: %s", flag, addr)
		}
	}
}

// There is no authentication: nothing listens beyond loopback by itself.
func TestDefaultsAreLoopback(t *testing.T) {
	for name, read := range ours {
		want := defaults["--"+name+"-addr"]
		if addr, err := read(settings.Env{}); err != nil || addr != want {
			t.Errorf("%s listens on %q by itself (%v), want %s", name, addr, err, want)
		}
	}
	help, err := exec.CommandContext(t.Context(), devBinary(t), "--help").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, help)
	}
	got := map[string]string{}
	for _, match := range regexp.MustCompile(`(--[a-z-]+-addr)="?([^"\s]*)"?`).FindAllStringSubmatch(string(help), -1) {
		got[match[1]] = match[2]
	}
	for flag, want := range defaults {
		if got[flag] != want {
			t.Errorf("dev's %s is %q by itself, want %s", flag, got[flag], want)
		}
	}
	if len(got) != len(defaults) {
		t.Errorf("dev has the addresses %q; this test knows %q", got, defaults)
	}
}

// `make build` leaves the five programs, and each is one.
func TestMakeBuild(t *testing.T) {
	needProgram(t, "make")
	bin := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute) // the first time
	defer cancel()
	cmd := exec.CommandContext(ctx, "make", "-C", repository, "build", "BIN="+bin)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	entries, err := os.ReadDir(bin)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		if text, err := exec.CommandContext(ctx, filepath.Join(bin, e.Name()), "--help").CombinedOutput(); err != nil || !strings.Contains(string(text), "Usage: "+e.Name()) {
			t.Errorf("%s --help: %v\n%s", e.Name(), err, text)
		}
	}
	if want := []string{"api", "dev", "runcast", "subscriber", "worker"}; !slices.Equal(names, want) {
		t.Errorf("make build leaves %q, want %q", names, want)
	}
}

// A missing program is a failure, on CI whatever else is set. This test runs
// itself as a child on a machine that has no programs at all.
func TestMissingProgramIsAFailureOnCI(t *testing.T) {
	const child = "TEST_CHILD"
	switch os.Getenv(child) {
	case "chromium":
		chromium(t)
		return
	case "program":
		needProgram(t, "redis-server")
		return
	}
	for _, what := range []string{"chromium", "program"} {
		for _, tt := range []struct {
			env  []string
			ok   bool
			says string
		}{
			{[]string{"CI=true"}, false, "run `make test`"},
			{[]string{"CI=true", "RUNCAST_TEST_SKIP_SERVERS=1"}, false, "run `make test`"},
			{nil, false, "run `make test`"},
			{[]string{"RUNCAST_TEST_SKIP_SERVERS=1"}, true, "--- SKIP"},
		} {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMissingProgramIsAFailureOnCI$", "-test.v")
			cmd.Env = append([]string{"PATH=", child + "=" + what}, tt.env...)
			out, err := cmd.CombinedOutput()
			if (err == nil) != tt.ok || !strings.Contains(string(out), tt.says) {
				t.Errorf("%s with %q: %v, want success: %v and %q in\n%s", what, tt.env, err, tt.ok, tt.says, out)
			}
		}
	}
}
