package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"
)

const (
	// demoEvery is how often a further demo run is started.
	demoEvery = 8 * time.Second
	// demoIDs bounds the IDs of further runs: each is used again and again,
	// so that lists and memory stay small.
	demoIDs = 12
	// demoRuns bounds the further runs of one process: what is left open for
	// a week should not fill the memory.
	demoRuns = 1000
)

// demoRun is what the API is asked to start.
type demoRun struct {
	Type  string         `json:"type"`
	ID    string         `json:"id"`
	Input map[string]any `json:"input"`
	Tags  []string       `json:"tags"`
}

func progressive(id string, tags []string, input map[string]any) demoRun {
	return demoRun{Type: "ProgressiveWorkflow", ID: id, Input: input, Tags: append([]string{"demo"}, tags...)}
}

// demo starts a few runs of all kinds, then one now and then until ctx ends.
func (d *dev) demo(ctx context.Context) error {
	for _, run := range []demoRun{
		progressive("demo-import", nil, map[string]any{"steps": 40, "step_ms": 3000}),
		progressive("demo-answer", []string{"text"}, map[string]any{"steps": 6, "step_ms": 5000, "output": true}),
		progressive("demo-failing", nil, map[string]any{"steps": 8, "step_ms": 1500, "fail_at": 5}),
		progressive("demo-long-history", nil, map[string]any{"steps": 20, "step_ms": 2000, "continue_at": 10}),
	} {
		d.startDemo(ctx, run)
	}
	tick := time.NewTicker(demoEvery)
	defer tick.Stop()
	for n := range demoRuns {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		input := map[string]any{"steps": 4 + rand.IntN(12), "step_ms": 800 + rand.IntN(3000)}
		if n%5 == 2 {
			input["output"] = true
		}
		if n%7 == 4 {
			input["fail_at"] = 3
		}
		d.startDemo(ctx, progressive(fmt.Sprintf("demo-order-%02d", n%demoIDs+1), []string{"orders"}, input))
	}
	d.logger.Info("the demo starts no further runs; restart for more")
	return nil
}

// startDemo asks the API, as anybody would. A run that is still open under
// the ID is as good as a new one.
func (d *dev) startDemo(ctx context.Context, run demoRun) {
	body, err := json.Marshal(run)
	if err == nil {
		err = d.post(ctx, body)
	}
	if err != nil && ctx.Err() == nil {
		d.logger.Warn("a demo run was not started", "id", run.ID, "error", err)
	}
}

func (d *dev) post(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+d.APIAddr+"/v1/workflows", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusAccepted && res.StatusCode != http.StatusConflict {
		return fmt.Errorf("%s: %s", res.Status, text)
	}
	return nil
}
