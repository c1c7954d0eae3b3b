package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// askFor bounds how long the other programs are asked how they are.
const askFor = 3 * time.Second

// check says what is not ready: a program that has not started yet, or that
// says so itself because a server is away.
func (d *dev) check() error {
	if err := d.ready.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), askFor)
	defer cancel()
	worker, api := make(chan error, 1), make(chan error, 1)
	go func() { worker <- askReady(ctx, d.WorkerAddr) }()
	go func() { api <- askReady(ctx, d.APIAddr) }()
	var missing []string
	if err := <-worker; err != nil {
		missing = append(missing, "worker: "+err.Error())
	}
	if err := <-api; err != nil {
		missing = append(missing, "api: "+err.Error())
	}
	if len(missing) > 0 {
		return errors.New(strings.Join(missing, " "))
	}
	return nil
}

// askReady asks a program's /readyz.
func askReady(ctx context.Context, addr string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		return nil
	}
	var problem struct{ Detail string }
	if json.NewDecoder(io.LimitReader(res.Body, 4<<10)).Decode(&problem) != nil || problem.Detail == "" {
		return fmt.Errorf("/readyz answers %s", res.Status)
	}
	return errors.New(problem.Detail)
}
