package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/runcast/runcast/bench/internal/machine"
	"github.com/runcast/runcast/bench/internal/machinetest"
	"github.com/runcast/runcast/bench/internal/publish"
	"github.com/runcast/runcast/bench/internal/report"
	"github.com/runcast/runcast/bench/internal/trial"
)

// build builds the servers that are compared.
func build(t *testing.T) (dir string) {
	dir = t.TempDir()
	for _, one := range []struct{ in, program string }{{"..", "./floor"}, {"..", "./naive"}, {"../..", "./cmd/subscriber"}} {
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", dir+"/", one.program)
		cmd.Dir, cmd.Env = one.in, append(os.Environ(), "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", one.program, err, out)
		}
	}
	return dir
}

// open opens a viewer's stream and returns what came behind the head. What is
// expected first is a piece of that.
func open(t *testing.T, s *server, path, form, first string) (conn net.Conn, body []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, "GET /v1/workflows/"+trial.Workflow(0)+path+" HTTP/1.1\r\nHost: "+s.addr+"\r\n"+form+"\r\n"); err != nil {
		t.Fatal(err)
	}
	body = until(t, conn, nil, func(b []byte) bool {
		_, rest, ok := bytes.Cut(b, []byte("\r\n\r\n"))
		return ok && bytes.Contains(rest, []byte(first))
	})
	_, body, _ = bytes.Cut(body, []byte("\r\n\r\n"))
	return conn, body
}

// until reads on until all that came suffices.
func until(t *testing.T, conn net.Conn, b []byte, enough func([]byte) bool) []byte {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for !enough(b) {
		n, err := conn.Read(buf)
		if b = append(b, buf[:n]...); err != nil {
			t.Fatalf("after %q: %v", b, err)
		}
	}
	return b
}

// All three deliver, and the floor sends byte for byte what the subscriber
// sends: else it would be another amount of work.
func TestAllDeliverAndTheFloorSendsTheSame(t *testing.T) {
	b := &bench{bin: build(t), stderr: io.Discard, report: report.New(true), quick: true}
	b.redisAddr = machinetest.Redis(t)
	var err error
	if b.report.Cores, err = machine.PickCores(); err != nil {
		t.Fatal(err)
	}
	pub, err := publish.Open(t.Context(), b.redisAddr, []string{trial.Workflow(0)}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pub.Close()
	if err := pub.Append(t.Context(), 0, time.Now()); err != nil {
		t.Fatal(err)
	}
	type stream struct {
		conn net.Conn
		body []byte
	}
	transports := []struct{ path, form, end string }{
		{"/stream", "", "\n\n"},
		{"/ws", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: runcast.v1.json\r\n" +
			"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n", "}"},
	}
	streams := make(map[string][]stream)
	for _, name := range []string{floor, naive, subscriber} {
		s, err := b.node(t.Context(), name, false)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Stop()
		for _, tr := range transports {
			first := ""
			if name == subscriber {
				first = `"seq":1` // the snapshot
			}
			conn, body := open(t, s, tr.path, tr.form, first)
			streams[name] = append(streams[name], stream{conn, body})
		}
		// The floor takes on one after the other: so those are taken on.
		if err := machine.Answers(s.url + "/readyz")(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := pub.Append(t.Context(), 0, time.Now()); err != nil {
		t.Fatal(err)
	}
	for i, tr := range transports {
		got := make(map[string][]byte)
		for name, all := range streams {
			got[name] = until(t, all[i].conn, all[i].body, func(b []byte) bool {
				_, rest, ok := bytes.Cut(b, []byte(`"seq":2,`))
				rest = bytes.TrimSuffix(rest, []byte("\r\n")) // of a chunk
				return ok && bytes.HasSuffix(rest, []byte(tr.end))
			})
		}
		frame := got[floor]
		if len(frame) < 100 || !bytes.HasSuffix(got[subscriber], frame) {
			t.Errorf("%s: the floor sends\n%q\nthe subscriber\n%q", tr.path, frame, got[subscriber])
		}
		_, event, _ := bytes.Cut(frame, []byte(`{"epoch":`))
		if event = bytes.TrimRight(event, "}\n"); !bytes.Contains(got[naive], event) {
			t.Errorf("%s: naive sends\n%q\nnot the event\n%q", tr.path, got[naive], event)
		}
	}
}
