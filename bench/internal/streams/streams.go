// Package streams has viewers watch runs by the API service's streams, as
// Server-Sent Events over HTTP.
package streams

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/runcast/runcast/bench/internal/arm"
	"github.com/runcast/runcast/pkg/strategy"
)

// maxLine bounds a line of a stream.
const maxLine = 1 << 20

// errBroken is what a viewer fails with whose stream ends without an end.
var errBroken = errors.New("the stream broke off")

// Follow has each viewer watch by a stream of its own, of the service at base.
func Follow(base, strategy string) arm.Follow {
	return func(ctx context.Context, runs []string, viewers []*arm.Viewer, spread time.Duration) error {
		// Each stream has a connection of its own, as each browser has.
		transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport}
		var all sync.WaitGroup
		begin := time.Now()
		for i, v := range viewers {
			all.Go(func() {
				if !arm.Await(ctx, begin, spread, i, len(viewers)) {
					return
				}
				v.From = time.Now()
				if err := watch(ctx, client, base+"/v1/strategies/"+strategy+"/workflows/"+url.PathEscape(runs[v.Run])+"/stream", v); err != nil {
					v.Fail(ctx, err)
				}
				v.To = time.Now()
			})
		}
		all.Wait()
		return nil
	}
}

// watch opens a stream and reads it to its end.
func watch(ctx context.Context, client *http.Client, at string, v *arm.Viewer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10)) // it is told as far as it goes
		return fmt.Errorf("answered %s: %s", res.Status, strings.TrimSpace(string(text)))
	}
	return read(res.Body, v)
}

// read notes what a stream says. It returns nil where it said that the run has
// ended.
func read(stream io.Reader, v *arm.Viewer) error {
	lines := bufio.NewScanner(stream)
	lines.Buffer(make([]byte, 4<<10), maxLine)
	kind := ""
	for lines.Scan() {
		field, value, _ := bytes.Cut(lines.Bytes(), []byte(": "))
		switch string(field) {
		case "event":
			kind = string(value)
		case "data":
			if err := frame(kind, value, v); err != nil {
				return err
			}
		}
	}
	switch {
	case v.Ends > 0:
		return nil
	case lines.Err() != nil:
		return lines.Err()
	}
	return errBroken
}

// frame notes one frame.
func frame(kind string, data []byte, v *arm.Viewer) error {
	switch kind {
	case "snapshot", "update":
		var state struct {
			Percent *float64 `json:"percent"`
		}
		if err := json.Unmarshal(data, &state); err != nil {
			return fmt.Errorf("read a %s: %w", kind, err)
		}
		v.State(state.Percent)
	case "gap":
		var gap struct {
			Reason string `json:"reason"`
		}
		if err := json.Unmarshal(data, &gap); err != nil {
			return fmt.Errorf("read a gap: %w", err)
		}
		switch gap.Reason {
		case strategy.Degraded, strategy.Stale:
			v.Notice(gap.Reason)
		default:
			v.Gaps++
		}
	case "end":
		v.Ends++
	}
	return nil
}
