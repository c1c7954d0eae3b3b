package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/runcast/runcast/bench/internal/arm"
	"github.com/runcast/runcast/bench/internal/report"
)

// comparison is all that one run found. The rows and samples of the report
// stay empty.
type comparison struct {
	report.Run
	Arms []armResult `json:"arms"`
}

// armResult is one arm, measured or not.
type armResult struct {
	*arm.Result
	// Skipped is why it was not measured; empty: it was.
	Skipped string `json:"skipped,omitempty"`
	// FirstTry is why the arm broke when it was first tried; this is the
	// second try. Empty: there was one.
	FirstTry string `json:"first_try,omitempty"`
}

// String describes the arm's shape.
func (a *armResult) String() string {
	return shape{runs: a.Runs, viewers: a.Viewers, shared: a.Shared, changes: a.Changes}.String()
}

// alone returns what runs of this arm's kind are when nobody follows them;
// nil: that was not measured.
func (c *comparison) alone(a *armResult) *arm.Result {
	for _, b := range c.Arms {
		if b.Strategy == arm.None && b.Skipped == "" && b.Runs == a.Runs && b.Changes == a.Changes {
			return b.Result
		}
	}
	return nil
}

// find returns the arm of a strategy with so many viewers of one run; nil:
// there is none. One viewer shares with nobody.
func (c *comparison) find(name string, viewers int, shared bool) *armResult {
	for i := range c.Arms {
		a := &c.Arms[i]
		if a.Strategy == name && a.Runs == 1 && a.Viewers == viewers && (a.Shared == shared || viewers == 1) {
			return a
		}
	}
	return nil
}

// many returns the arm of a strategy with many runs; nil: there is none.
func (c *comparison) many(name string) *armResult {
	for i := range c.Arms {
		if a := &c.Arms[i]; a.Strategy == name && a.Runs > 1 {
			return a
		}
	}
	return nil
}

// breaks says with how many viewers a strategy broke, and how; the number is
// 0 when it did not.
func (c *comparison) breaks(name string, shared bool) (viewers int, how string) {
	for i := range c.Arms {
		a := &c.Arms[i]
		if a.Strategy == name && a.Runs == 1 && (a.Shared == shared || a.Viewers == 1) && a.Broken != "" {
			return a.Viewers, a.Broken
		}
	}
	return 0, ""
}

// most returns the largest number of viewers of one run that were measured.
func (c *comparison) most(name string, shared bool) (viewers int) {
	for i := range c.Arms {
		if a := &c.Arms[i]; a.Strategy == name && a.Runs == 1 && (a.Shared == shared || a.Viewers == 1) && a.Skipped == "" {
			viewers = max(viewers, a.Viewers)
		}
	}
	return viewers
}

// write puts the results into files.
func (c *comparison) write(o settings) error {
	if o.show == "" {
		text, err := json.MarshalIndent(c, "", "  ")
		if err != nil {
			return fmt.Errorf("encode the results: %w", err)
		}
		if err := save(o.out, "compare.json", append(text, '\n')); err != nil {
			return err
		}
	}
	plot, err := c.plot()
	if err != nil {
		return err
	}
	if err := save(o.out, "compare.svg", plot); err != nil {
		return err
	}
	if err := save(o.out, "compare.md", []byte(c.summary()+"\n"+c.markdown())); err != nil {
		return err
	}
	if o.docs == "" {
		return nil
	}
	return c.document(o.docs, plot)
}

func save(dir, name string, text []byte) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), text, 0o666); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	return nil
}

// readComparison reads what write has written.
func readComparison(file string) (*comparison, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read results: %w", err)
	}
	c := new(comparison)
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("read results: %s: %w", file, err)
	}
	for _, a := range c.Arms {
		if a.Result == nil {
			return nil, fmt.Errorf("read results: %s: an arm without figures; it is no file of `make compare`", file)
		}
		if a.Skipped == "" {
			a.Broken = judge(a.Result, c.Quick)
		}
	}
	return c, nil
}
