package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"time"
)

// frame is one event of a stream, as the server sent it.
type frame struct {
	kind string // snapshot, update, gap, end
	id   string // position after it; "" if it names none
	data []byte // one JSON value
}

// maxLine bounds what one line of a stream may hold. A snapshot with the
// records of an open output is the longest that a server sends.
const maxLine = 16 << 20

var errLineTooLong = errors.New("the stream has a line of more than 16 MiB")

// sseReader reads Server-Sent Events as the HTML standard defines them.
type sseReader struct {
	r *bufio.Reader
	// alive is called for each line, heartbeats included.
	alive func()
	// retry is the pause that the server last asked for before a reconnect; 0
	// if it asked for none.
	retry time.Duration
}

// next returns the next event. The error is io.EOF at the end of the stream;
// an event that the end cuts off is dropped, as the standard wants.
func (s *sseReader) next() (frame, error) {
	var f frame
	var data []byte
	has := false
	for {
		line, err := s.line()
		if err != nil {
			return frame{}, err
		}
		s.alive()
		if len(line) == 0 {
			if !has {
				f = frame{}
				continue
			}
			f.data = data
			return f, nil
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "event":
			f.kind = string(value)
		case "id":
			f.id = string(value)
		case "data":
			if has {
				data = append(data, '\n')
			}
			data, has = append(data, value...), true
		case "retry":
			if ms, err := strconv.ParseInt(string(value), 10, 32); err == nil && ms >= 0 {
				s.retry = time.Duration(ms) * time.Millisecond
			}
		}
	}
}

// line returns the next line without its end. It is valid until the next call.
func (s *sseReader) line() ([]byte, error) {
	var long []byte
	for {
		part, err := s.r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			if len(long)+len(part) > maxLine {
				return nil, errLineTooLong
			}
			long = append(long, part...)
			continue
		case err != nil:
			return nil, err
		}
		if long != nil {
			part = append(long, part...)
		}
		return bytes.TrimSuffix(part[:len(part)-1], []byte("\r")), nil
	}
}

func newSSEReader(r io.Reader, alive func()) *sseReader {
	return &sseReader{r: bufio.NewReaderSize(r, 32<<10), alive: alive}
}
