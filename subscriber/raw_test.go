package subscriber_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/subscriber"
)

// raw is one viewer's connection, of which the test takes as many bytes as it
// likes and no more. What the kernel keeps for it is small.
type raw struct {
	t    testing.TB
	tcp  net.Conn
	body io.Reader // the bytes of the stream
	ws   bool
	buf  []byte // taken, and not yet a whole frame
}

// closed is the end of a WebSocket with a close frame.
type closed struct{ code int }

func (c closed) Error() string { return fmt.Sprint("close frame ", c.code) }

// startFor starts a node with TLS where the transport needs it.
func startFor(t *testing.T, transport string, change func(*subscriber.Config)) (*node, testenv.Certificate) {
	var files testenv.Certificate
	n := start(t, func(o *subscriber.Options) {
		if isSecure(transport) {
			files = testenv.NewCertificate(t, t.TempDir())
			o.Config.TLS.Cert, o.Config.TLS.Key = files.CertFile, files.KeyFile
		}
		o.Config.HeartbeatEvery = time.Hour // a raw client answers none
		if change != nil {
			change(&o.Config)
		}
	})
	return n, files
}

// dialSmall opens a connection for which the kernel keeps little: a small
// buffer on this side, and small segments, of which the other side keeps few.
func dialSmall(t testing.TB, addr string) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: 10 * time.Second, Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		outer := c.Control(func(fd uintptr) {
			err = errors.Join(
				syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10),
				syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1000))
		})
		return errors.Join(outer, err)
	}}
	conn, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// openRaw opens a workflow's stream and takes no more than the answer's head.
func openRaw(t testing.TB, n *node, files testenv.Certificate, transport, id string) *raw {
	t.Helper()
	conn := dialSmall(t, n.Addr())
	_ = conn.SetDeadline(time.Now().Add(time.Minute)) // a test that hangs says where
	v := &raw{t: t, tcp: conn, ws: strings.HasPrefix(transport, "ws")}
	if isSecure(transport) {
		c := files.Client.Clone()
		c.ServerName = "127.0.0.1"
		if strings.HasSuffix(transport, "+h2") {
			c.NextProtos = []string{"h2"}
		}
		conn = tls.Client(conn, c)
	}
	if strings.HasSuffix(transport, "+h2") {
		v.body = openHTTP2(t, conn, id, 4<<10)
		return v
	}
	what, upgrade := "stream", ""
	if v.ws {
		what = "ws"
		upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
	}
	if _, err := fmt.Fprintf(conn, "GET /v1/workflows/%s/%s HTTP/1.1\r\nHost: x\r\n%s\r\n", id, what, upgrade); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReaderSize(conn, 16) // so small that it reads hardly ahead
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	switch res.StatusCode {
	case http.StatusOK:
		v.body = res.Body
	case http.StatusSwitchingProtocols:
		v.body = in
	default:
		t.Fatalf("%s: %s", transport, res.Status)
	}
	return v
}

func (v *raw) close() { _ = v.tcp.Close() }

// take takes n bytes of the stream.
func (v *raw) take(n int) error {
	p := make([]byte, n)
	n, err := io.ReadFull(v.body, p)
	v.buf = append(v.buf, p[:n]...)
	return err
}

// next returns the next frame. At the end of the connection the error is
// io.EOF if the last frame was whole; a close frame is a closed.
func (v *raw) next() (frame, error) {
	for {
		parse := v.parseSSE
		if v.ws {
			parse = v.parseWS
		}
		f, size, err := parse()
		v.buf = v.buf[size:]
		if err != nil || f.Kind != "" {
			return f, err
		}
		if size > 0 {
			continue // a comment, or a retry
		}
		p := make([]byte, 2<<10)
		n, err := v.body.Read(p)
		v.buf = append(v.buf, p[:n]...)
		if n == 0 && err != nil {
			if len(v.buf) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return frame{}, err
		}
	}
}

// parseSSE returns the frame at the beginning of buf and its size, 0 where it
// is not whole yet.
func (v *raw) parseSSE() (f frame, size int, err error) {
	text, _, ok := bytes.Cut(v.buf, []byte("\n\n"))
	if !ok {
		return f, 0, nil
	}
	for line := range bytes.Lines(text) {
		name, value, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "event":
			f.Kind = string(value)
		case "id":
			f.ID = string(value)
		case "data":
			f.Data = bytes.Clone(value)
		case "", "retry":
		default:
			return f, 0, fmt.Errorf("broken frame %.200q", text)
		}
	}
	if f.Kind != "" && !json.Valid(f.Data) {
		return f, 0, fmt.Errorf("broken frame %.200q", text)
	}
	return f, len(text) + 2, nil
}

// parseWS is parseSSE for WebSocket frames: text, pong and close.
func (v *raw) parseWS() (f frame, size int, err error) {
	if len(v.buf) < 2 {
		return f, 0, nil
	}
	head, length := 2, uint64(v.buf[1])
	switch {
	case length == 126 && len(v.buf) >= 4:
		head, length = 4, uint64(binary.BigEndian.Uint16(v.buf[2:]))
	case length == 127 && len(v.buf) >= 10:
		head, length = 10, binary.BigEndian.Uint64(v.buf[2:])
	case length >= 126 && length <= 127:
		return f, 0, nil
	}
	if length > 1<<24 {
		return f, 0, fmt.Errorf("broken frame % x", v.buf[:head])
	}
	if uint64(len(v.buf)) < uint64(head)+length {
		return f, 0, nil
	}
	size = head + int(length)
	body := v.buf[head:size]
	switch v.buf[0] {
	case 0x81:
		var m struct {
			Event, ID string
			Data      json.RawMessage
		}
		if err := json.Unmarshal(body, &m); err != nil {
			return f, 0, fmt.Errorf("broken frame %.200q: %w", body, err)
		}
		return frame{Kind: m.Event, ID: m.ID, Data: m.Data}, size, nil
	case 0x88:
		if len(body) < 2 {
			return f, size, closed{1005}
		}
		return f, size, closed{int(binary.BigEndian.Uint16(body))}
	case 0x8a:
		return f, size, nil
	}
	return f, 0, fmt.Errorf("broken frame % x", v.buf[:head])
}

// h2 is one stream on an HTTP/2 connection of its own. It gives the server
// room for what the test takes, and for nothing ahead.
type h2 struct {
	framer *http2.Framer
	data   []byte // came, and was not taken
	end    error
}

func openHTTP2(t testing.TB, conn net.Conn, id string, window uint32) *h2 {
	t.Helper()
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	var block bytes.Buffer
	headers := hpack.NewEncoder(&block)
	for _, h := range [][2]string{
		{":method", "GET"}, {":scheme", "https"}, {":authority", "x"}, {":path", "/v1/workflows/" + id + "/stream"},
	} {
		if err := headers.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			t.Fatal(err)
		}
	}
	s := &h2{framer: http2.NewFramer(conn, conn)}
	err := errors.Join(
		s.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}),
		s.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}))
	for err == nil {
		var f http2.Frame
		if f, err = s.framer.ReadFrame(); err != nil {
			break
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if f.IsAck() {
				continue
			}
			if streams, ok := f.Value(http2.SettingMaxConcurrentStreams); !ok || streams < 100 || streams > 1000 {
				t.Errorf("the server takes %d streams", streams)
			}
			err = s.framer.WriteSettingsAck()
		case *http2.HeadersFrame:
			fields, err := hpack.NewDecoder(4096, nil).DecodeFull(f.HeaderBlockFragment())
			if err != nil || fields[0].Value != "200" {
				t.Fatalf("HTTP/2: %v, %v", fields, err)
			}
			return s
		}
	}
	t.Fatal(err)
	return nil
}

func (s *h2) Read(p []byte) (int, error) {
	for len(s.data) == 0 {
		if s.end != nil {
			return 0, s.end
		}
		f, err := s.framer.ReadFrame()
		if err != nil {
			return 0, err
		}
		switch f := f.(type) {
		case *http2.DataFrame:
			s.data = append(s.data, f.Data()...)
			if f.StreamEnded() {
				s.end = io.EOF
			}
		case *http2.RSTStreamFrame:
			s.end = fmt.Errorf("the stream was reset: %s", f.ErrCode)
		}
	}
	n := copy(p, s.data)
	s.data = s.data[n:]
	// Once the stream has ended there may be nobody to take these.
	_ = s.framer.WriteWindowUpdate(0, uint32(n))
	_ = s.framer.WriteWindowUpdate(1, uint32(n))
	return n, nil
}
