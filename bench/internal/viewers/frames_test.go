package viewers

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"
	"time"
)

const event7 = `{"epoch":1767225600000,"seq":7,"check":"3f2a9c01","workflow_id":"w","type":"log","time":"2026-11-23T01:02:03.456789Z"}`

func text(payload string) string {
	switch n := len(payload); {
	case n < 126:
		return string([]byte{0x81, byte(n)}) + payload
	default:
		return "\x81\x7e" + string([]byte{byte(n >> 8), byte(n)}) + payload
	}
}

func TestFrames(t *testing.T) {
	for _, tt := range []struct {
		name string
		cut  func([]byte) (int, frame, error)
		in   string
		kind kind
		seq  int64
	}{
		{"SSE update", sseFrame, "event: update\nid: 1767225600000-7-3f2a9c01\ndata: " + event7 + "\n\n", update, 7},
		{"SSE without a name", sseFrame, "data: " + event7 + "\n\n", update, 7},
		{"SSE snapshot", sseFrame, "event: snapshot\nid: 1767225600000-42-3f2a9c01\ndata: {}\n\n", snapshot, 42},
		{"SSE empty snapshot", sseFrame, "event: snapshot\nid: 0-0\ndata: {}\n\n", snapshot, 0},
		{"SSE gap", sseFrame, "event: gap\ndata: {\"from\":\"\"}\n\n", gap, 0},
		{"SSE end", sseFrame, "event: end\nid: x\ndata: " + event7 + "\n\n", end, 7},
		{"SSE comment", sseFrame, ":\n\n", other, 0},
		{"SSE retry", sseFrame, "retry: 1000\n\n", other, 0},
		{"WebSocket update", wsFrame, text(`{"event":"update","id":"1767225600000-7-3f2a9c01","data":` + event7 + `}`), update, 7},
		{"WebSocket bare event", wsFrame, text(event7), update, 7},
		{"WebSocket snapshot", wsFrame, text(`{"event":"snapshot","id":"1767225600000-42-3f2a9c01","data":{}}`), snapshot, 42},
		{"WebSocket gap", wsFrame, text(`{"event":"gap","data":{"from":""}}`), gap, 0},
		{"WebSocket ping", wsFrame, "\x89\x02hi", ping, 0},
		{"WebSocket pong", wsFrame, "\x8a\x00", other, 0},
		{"WebSocket close", wsFrame, "\x88\x02\x03\xe8", closing, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := []byte(tt.in + "rest")
			for i := range len(tt.in) {
				if n, _, err := tt.cut(in[:i]); n != 0 || err != nil {
					t.Fatalf("of %d bytes it takes %d, %v", i, n, err)
				}
			}
			n, f, err := tt.cut(in)
			if err != nil || n != len(tt.in) || f.kind != tt.kind || f.seq != tt.seq {
				t.Errorf("%d of %d bytes, %+v, %v", n, len(tt.in), f, err)
			}
			if tt.kind == update {
				at, err := eventTime(f.data)
				if want := time.Date(2026, 11, 23, 1, 2, 3, 456789000, time.UTC); err != nil || !at.Equal(want) {
					t.Errorf("time %v %v", at, err)
				}
			}
		})
	}
}

func TestWhatIsNoFrame(t *testing.T) {
	for _, in := range []string{
		"event: update\ndata: {\"seq\":1}\n\n",
		"event: snapshot\nid: nothing\ndata: {}\n\n",
		"event: update\ndata: {\"epoch\":1,\"seq\":x\n\n",
	} {
		if _, _, err := sseFrame([]byte(in)); !errors.Is(err, errFrame) {
			t.Errorf("%q: %v", in, err)
		}
	}
	for _, in := range []string{
		"\x81\x81\x00\x00\x00\x00x", // masked
		"\x01\x01x",                 // a part of a message
		"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
		"\x81\x02{}",
	} {
		if _, _, err := wsFrame([]byte(in)); !errors.Is(err, errFrame) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestChunks(t *testing.T) {
	in := "5\r\nhello\r\n1\r\n,\r\n1A\r\n world of 26 (0x1A) bytes!\r\n0\r\n\r\n"
	const want = "hello, world of 26 (0x1A) bytes!"
	for cut := range len(in) {
		var c chunks
		var got []byte
		for _, part := range []string{in[:cut], in[cut:]} {
			b, err := c.take([]byte(part))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, b...)
		}
		if string(got) != want || !c.ended {
			t.Errorf("cut at %d: %q, ended %t", cut, got, c.ended)
		}
	}
	if _, err := new(chunks).take([]byte("zz\r\n")); !errors.Is(err, errFrame) {
		t.Errorf("what is no size: %v", err)
	}
}

func TestPong(t *testing.T) {
	if got := hex.EncodeToString(pong([]byte("ab"))); got != "8a82000000006162" {
		t.Error(got)
	}
}

func TestLoopbackOnly(t *testing.T) {
	for _, addr := range []string{"10.0.0.1:80", "192.0.2.1:8080", "0.0.0.0:80", ":8080", "127.0.0.1:0"} {
		if _, err := New(Config{Server: addr, Viewers: 1, Workflows: []string{"w"}}); err == nil {
			t.Errorf("%s is put under load", addr)
		}
	}
	for _, n := range []int{0, MaxViewers + 1} {
		if _, err := New(Config{Server: "127.0.0.1:80", Viewers: n, Workflows: []string{"w"}}); err == nil {
			t.Errorf("%d viewers are possible", n)
		}
	}
}

func BenchmarkSSEFrame(b *testing.B) {
	in := fmt.Appendf(nil, "event: update\nid: 1767225600000-7-3f2a9c01\ndata: %s\n\n", event7)
	in = append(in, bytes.Repeat([]byte(" "), 100)...)
	b.ReportAllocs()
	for b.Loop() {
		if n, _, err := sseFrame(in); n == 0 || err != nil {
			b.Fatal(n, err)
		}
	}
}
