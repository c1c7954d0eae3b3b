package redisstore_test

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/runcast/runcast/internal/testenv"
)

// The walk-through in docs/wire-contract.md does what it says.
func TestWalkThrough(t *testing.T) {
	doc, err := os.ReadFile("../../docs/wire-contract.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "## A walk-through")
	_, rest, _ = strings.Cut(rest, "```sh\n")
	script, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("the document has no walk-through")
	}
	script, _, _ = strings.Cut(script, "redis-cli SUBSCRIBE") // it would wait
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
