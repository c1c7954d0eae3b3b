package redisstore_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// The walk-through in docs/wire-contract.md does what it says.
func TestWalkThrough(t *testing.T) {
	script, _, _ := strings.Cut(walkThrough(t, "sh"), "redis-cli SUBSCRIBE") // it would wait
	srv := testenv.NewRedis(t, testenv.RedisOptions{})
	_, port, _ := net.SplitHostPort(srv.Addr)
	cmd := exec.Command("sh", "-ec", strings.ReplaceAll(script, "redis-cli", "redis-cli -p "+port))
	cmd.Dir = "../.."
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"OK", "DUPLICATE", `"lost":1,`, "\n3 2 ", "\npercent\n40\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in the output:\n%s", want, out)
		}
	}
}

// walkThrough returns the walk-through's code in a language.
func walkThrough(t testing.TB, language string) string {
	t.Helper()
	doc, err := os.ReadFile("../../docs/wire-contract.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "## A walk-through")
	_, rest, _ = strings.Cut(rest, "```"+language+"\n")
	code, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("the document has no walk-through in " + language)
	}
	return code
}

// python runs wire.py against a server.
func python(t testing.TB, addr string, args ...string) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), testenv.Python(t), append([]string{"testdata/wire.py", host, port}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Another language runs the golden vectors, and folds as Go does.
func TestVectorsInPython(t *testing.T) {
	t.Run("redis", func(t *testing.T) { python(t, testenv.Redis(t).Addr) })
	t.Run("miniredis", func(t *testing.T) { python(t, testenv.Mini(t).Addr()) })
}

// The walk-through's Python program writes what Go reads, night after night.
func TestProgramInPython(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program.py")
	if err := os.WriteFile(program, []byte(walkThrough(t, "python")), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := testenv.NewRedis(t, testenv.RedisOptions{})
	store, err := redisstore.Open(t.Context(), srv.URL(), redisstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	h := &harness{store: store}
	python(t, srv.Addr, program)
	events := h.events(t, "backup")
	s, err := h.store.Snapshot(t.Context(), "backup")
	if err != nil || len(events) != 8 || s.RunID != "2026-11-24" || s.Status != progress.StatusCompleted || *s.Percent != 40 || len(s.Steps) != 1 {
		t.Fatalf("%d events, %+v, %v", len(events), s, err)
	}
}
