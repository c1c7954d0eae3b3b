package viewers

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/url"
	"time"

	"golang.org/x/sys/unix"
)

type state uint8

const (
	unopened state = iota
	connecting
	asked // the request is on its way
	reading
	gone
)

// viewer is one connection, or one stream of it.
type viewer struct {
	fd int
	// conn is in the place of fd over TLS; nil for a stream of HTTP/2.
	conn    net.Conn
	ws      bool
	index   int32
	topic   int32
	state   state
	ready   bool
	served  bool // had its first frame
	chunked bool
	chunks  chunks
	// seq is the last event's; -1: not known.
	seq int64
	// began is when the connection was begun.
	began time.Time
	// rest is the beginning of a frame whose end is still to come.
	rest []byte
}

// open begins connections, as many as may be under way.
func (v *Viewers) open() {
	want, began := v.want, time.Now()
	if v.c.Spread > 0 {
		want = min(want, 1+int(int64(len(v.all))*int64(began.Sub(v.openFrom))/int64(v.c.Spread)))
	}
	for i := v.opened(); i < want && (v.opening < maxOpening || v.c.Spread > 0) && v.failed.Load() == nil; i++ {
		if v.c.Spread > 0 {
			began = v.openFrom.Add(v.c.Spread * time.Duration(i) / time.Duration(len(v.all)))
		}
		w := &v.all[i]
		*w = v.newViewer(i, began)
		if err := v.connect(w); err != nil {
			v.fail(fmt.Errorf("connection %d: %w", i+1, err))
			return
		}
		v.opening++
	}
}

func (v *Viewers) newViewer(i int, began time.Time) viewer {
	w := viewer{
		index: int32(i), topic: int32(i % len(v.c.Workflows)), ws: v.c.WebSocket != (v.c.Mixed && i%2 == 1),
		state: connecting, seq: -1, began: began,
	}
	if len(v.from) > 0 {
		w.seq = v.from[i%len(v.from)].Seq
	}
	return w
}

// opened returns how many connections were begun.
func (v *Viewers) opened() int { return int(v.nready.Load()) + v.opening }

func (v *Viewers) connect(w *viewer) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	w.fd = fd
	// Cut off at the end, a connection leaves no port behind that waits.
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	for {
		if v.source > 1 { // ports of the first address ran short
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
			if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, v.source}}); err != nil {
				return err
			}
		}
		err = unix.Connect(fd, &v.target)
		if err != unix.EADDRNOTAVAIL || v.source > 16 {
			break
		}
		v.source++
	}
	if err != nil && err != unix.EINPROGRESS {
		return err
	}
	return unix.EpollCtl(v.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLOUT, Fd: w.index})
}

// path returns what a viewer asks for.
func (v *Viewers) path(w *viewer) string {
	last := "stream"
	if w.ws {
		last = "ws"
	}
	q := url.Values{}
	if len(v.from) > 0 {
		q.Set("after", v.from[int(w.index)%len(v.from)].Text)
	}
	if v.c.Latest {
		q.Set("mode", "latest")
	}
	u := url.URL{Path: "/v1/workflows/" + v.c.Workflows[w.topic] + "/" + last, RawPath: "/v1/workflows/" + url.PathEscape(v.c.Workflows[w.topic]) + "/" + last, RawQuery: q.Encode()}
	return u.RequestURI()
}

// head returns the request for the stream.
func (v *Viewers) head(w *viewer) []byte {
	form := "Accept: text/event-stream\r\n"
	if w.ws {
		form = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
			"Sec-WebSocket-Protocol: runcast.v1.json\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
	}
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: load\r\n%s\r\n", v.path(w), v.c.Server, form)
}

// request asks for the stream.
func (v *Viewers) request(w *viewer) error {
	if err := w.send(v.head(w)); err != nil {
		return fmt.Errorf("send the request: %w", err)
	}
	return unix.EpollCtl(v.ep, unix.EPOLL_CTL_MOD, w.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: w.index})
}

// send writes what is short enough for any socket.
func (w *viewer) send(b []byte) error {
	if w.conn != nil {
		_, err := w.conn.Write(b)
		return err
	}
	n, err := unix.Write(w.fd, b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}

func (v *Viewers) event(w *viewer) {
	switch w.state {
	case connecting:
		if code, err := unix.GetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
			v.fail(fmt.Errorf("connection %d: %w", w.index+1, unix.Errno(code)))
			v.drop(w)
			return
		}
		w.state = asked
		if err := v.request(w); err != nil {
			v.lose(w, err)
		}
	case asked, reading:
		v.read(w)
	}
}

// read takes what the socket holds.
func (v *Viewers) read(w *viewer) {
	kept := copy(v.buf, w.rest)
	n, err := unix.Read(w.fd, v.buf[kept:])
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	if err != nil || n == 0 {
		v.lose(w, err)
		return
	}
	v.took(w, kept, n)
}

// took goes on with n bytes that were read behind the kept ones of the buffer.
func (v *Viewers) took(w *viewer, kept, n int) {
	v.counts.Bytes += int64(n)
	b := v.buf[:kept+n]
	if w.state == asked {
		head, body, ok := bytes.Cut(b, []byte("\r\n\r\n"))
		if !ok {
			w.rest = append(w.rest[:0], b...)
			return
		}
		if err := v.answered(w, head); err != nil {
			v.lose(w, err)
			return
		}
		w.rest, kept, b = w.rest[:0], 0, body
	}
	if w.chunked {
		plain, err := w.chunks.take(b[kept:])
		if err != nil {
			v.lose(w, err)
			return
		}
		b = b[:kept+len(plain)]
	}
	b, err := v.frames(w, b)
	if err != nil {
		v.lose(w, err)
		return
	}
	if len(b) == len(v.buf) {
		v.lose(w, errFrame)
		return
	}
	if w.chunks.ended {
		v.lose(w, nil)
		return
	}
	w.rest = append(w.rest[:0], b...)
}

// answered checks the head of the answer.
func (v *Viewers) answered(w *viewer, head []byte) error {
	line, _, _ := bytes.Cut(head, []byte("\r\n"))
	want := "200"
	if w.ws {
		want = "101"
	}
	if words := bytes.Fields(line); len(words) < 2 || string(words[1]) != want {
		return fmt.Errorf("the server answered %q", line)
	}
	w.chunked = bytes.Contains(bytes.ToLower(head), []byte("\r\ntransfer-encoding: chunked"))
	v.reads(w)
	return nil
}

// reads notes that the request was answered.
func (v *Viewers) reads(w *viewer) {
	w.state = reading
	if !v.c.FirstFrame {
		v.nowReady(w)
	}
}

func (v *Viewers) nowReady(w *viewer) {
	w.ready = true
	v.opening--
	v.nready.Add(1)
	v.ready.Add(time.Since(w.began))
}

// frames takes all whole frames off b and returns the rest.
func (v *Viewers) frames(w *viewer, b []byte) ([]byte, error) {
	cut := sseFrame
	if w.ws {
		cut = wsFrame
	}
	now := time.Now().UnixNano()
	for {
		n, f, err := cut(b)
		if err != nil {
			return nil, fmt.Errorf("%w: %.200q", err, b)
		}
		if n == 0 {
			return b, nil
		}
		b = b[n:]
		switch f.kind {
		case update:
			v.update(w, &f, now)
		case snapshot:
			// What it stands for was not delivered one by one.
			switch {
			case w.seq < 0 || f.seq <= w.seq:
			case v.c.Latest:
				v.counts.Delivered++
				v.counts.Skipped += f.seq - w.seq - 1
			default:
				v.counts.Lost += f.seq - w.seq
			}
			w.seq = f.seq
		case gap:
			v.counts.Gaps++
		case ping:
			if err := w.send(pong(f.data)); err != nil {
				return nil, err
			}
		case end, closing:
			return nil, fmt.Errorf("the server ended the stream: %.200q", f.data)
		}
		if !w.served && f.kind != other && f.kind != ping {
			w.served = true
			v.first.Add(time.Since(w.began))
		}
		if !w.ready && w.seq >= v.goal && f.kind != other && f.kind != ping {
			v.nowReady(w)
		}
	}
}

// update counts one event.
func (v *Viewers) update(w *viewer, f *frame, now int64) {
	switch {
	case w.seq >= 0 && f.seq <= w.seq:
		v.counts.Duplicates++
		return
	case w.seq >= 0 && v.c.Latest:
		v.counts.Skipped += f.seq - w.seq - 1
	case w.seq >= 0:
		v.counts.Lost += f.seq - w.seq - 1
	}
	w.seq = f.seq
	v.counts.Delivered++
	stamps := v.stamps[w.topic]
	s := &stamps[f.seq&int64(len(stamps)-1)]
	if s.seq != f.seq {
		at, err := eventTime(f.data)
		if err != nil {
			v.fail(err)
			return
		}
		*s = stamp{seq: f.seq, nano: at.UnixNano()}
		if v.c.Timed != "" && !bytes.Contains(f.data, []byte(`"type":"`+v.c.Timed+`"`)) {
			s.nano = 0
		}
	}
	if s.nano != 0 {
		v.hist.Add(time.Duration(now - s.nano))
	}
}

// lose notes that the connection broke, though it was to stay.
func (v *Viewers) lose(w *viewer, err error) {
	if err == nil {
		err = fmt.Errorf("the server closed it")
	}
	v.counts.Closed++
	if !w.ready {
		v.fail(fmt.Errorf("connection %d: %w", w.index+1, err))
	}
	v.drop(w)
}

func (v *Viewers) drop(w *viewer) {
	switch {
	case w.conn != nil:
		_ = w.conn.Close()
	case v.c.Secure == Clear:
		_ = unix.Close(w.fd) // with it it leaves the epoll
	}
	w.state, w.rest = gone, nil
}
