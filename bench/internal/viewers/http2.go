package viewers

import (
	"bytes"
	"errors"
	"fmt"
	"net"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// streamsPerConn is how many viewers share a connection of HTTP/2.
const streamsPerConn = 100

// window is how much the server may send before it hears from the viewer.
const window = 1 << 30

// streams reads the streams of some viewers from one connection.
func (v *Viewers) streams(conn net.Conn, some []viewer) error {
	f := http2.NewFramer(conn, conn)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.SetReuseFrames()
	if err := v.askAll(conn, f, some); err != nil {
		return err
	}
	var taken uint32
	for {
		frame, err := f.ReadFrame()
		here := true
		var answer error
		v.do(func() {
			if err == nil {
				answer = v.http2Frame(f, frame, some, &taken)
			}
			if err != nil || answer != nil {
				for i := range some {
					if w := &some[i]; w.state != gone {
						v.lose(w, errors.Join(err, answer))
					}
				}
				here = false
			}
			v.settle()
		})
		if !here {
			return nil
		}
	}
}

// askAll begins the connection, and a stream for each viewer.
func (v *Viewers) askAll(conn net.Conn, f *http2.Framer, some []viewer) error {
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		return fmt.Errorf("begin HTTP/2: %w", err)
	}
	err := errors.Join(
		f.WriteSettings(http2.Setting{ID: http2.SettingEnablePush}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}),
		f.WriteWindowUpdate(0, window),
	)
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i := range some {
		if err != nil {
			break
		}
		w := &some[i]
		block.Reset()
		v.do(func() {
			w.state = asked
			for _, h := range [][2]string{
				{":method", "GET"}, {":scheme", "https"}, {":authority", v.c.Server}, {":path", v.path(w)},
				{"accept", "text/event-stream"}, {"user-agent", "load"},
			} {
				err = errors.Join(err, enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}))
			}
		})
		if err == nil {
			err = f.WriteHeaders(http2.HeadersFrameParam{
				StreamID: uint32(2*i + 1), BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true,
			})
		}
	}
	if err != nil {
		return fmt.Errorf("send the requests: %w", err)
	}
	return nil
}

// http2Frame takes one frame. An error ends the connection.
func (v *Viewers) http2Frame(f *http2.Framer, frame http2.Frame, some []viewer, taken *uint32) error {
	var w *viewer
	if id := frame.Header().StreamID; id != 0 {
		if i := int(id-1) / 2; id%2 == 1 && i < len(some) {
			w = &some[i]
		}
		if w == nil || w.state == gone {
			return nil
		}
	}
	switch frame := frame.(type) {
	case *http2.SettingsFrame:
		if !frame.IsAck() {
			return f.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !frame.IsAck() {
			return f.WritePing(true, frame.Data)
		}
	case *http2.GoAwayFrame:
		return fmt.Errorf("the server goes away: %s", frame.ErrCode)
	case *http2.RSTStreamFrame:
		v.lose(w, fmt.Errorf("the server reset the stream: %s", frame.ErrCode))
	case *http2.MetaHeadersFrame:
		if status := frame.PseudoValue("status"); status != "200" {
			v.lose(w, fmt.Errorf("the server answered %s", status))
		} else if w.state == asked {
			v.reads(w)
		}
		if frame.StreamEnded() && w.state != gone {
			v.lose(w, nil)
		}
	case *http2.DataFrame:
		v.feed(w, frame.Data())
		if frame.StreamEnded() && w.state != gone {
			v.lose(w, nil)
		}
		// A stream's own window outlasts every trial.
		if *taken += frame.Length; *taken > window/2 {
			err := f.WriteWindowUpdate(0, *taken)
			*taken = 0
			return err
		}
	}
	return nil
}
