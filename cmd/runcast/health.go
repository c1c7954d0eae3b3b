package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

type healthCommand struct {
	URL     *url.URL      `arg:"" name:"url" help:"What to ask, such as http://127.0.0.1:8080/readyz."`
	Timeout time.Duration `default:"3s" help:"How long to wait for the answer."`
}

func (c healthCommand) Run(ctx context.Context, _ streams) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL.String(), nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return &exitError{exitNotCompleted, fmt.Errorf("not healthy: %w", err)}
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(io.LimitReader(res.Body, 500)) // for people; the status says enough
		return &exitError{exitNotCompleted, fmt.Errorf("not healthy: %s answered %s: %s", c.URL, res.Status, printable(strings.TrimSpace(string(why))))}
	}
	return nil
}
