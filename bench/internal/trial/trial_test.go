package trial

import (
	"strings"
	"testing"
	"time"

	"github.com/runcast/runcast/bench/internal/viewers"
)

func TestBounds(t *testing.T) {
	good := Config{Server: "127.0.0.1:8080", Redis: "127.0.0.1:6379", Viewers: 8, Topics: 2, Within: time.Minute, Phases: []Phase{{20, time.Second}}}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"a server elsewhere":            func(c *Config) { c.Server = "192.0.2.1:8080" },
		"Redis elsewhere":               func(c *Config) { c.Redis = "192.0.2.1:6379" },
		"no end":                        func(c *Config) { c.Within = 0 },
		"too long":                      func(c *Config) { c.Within = time.Hour },
		"a phase that is too long":      func(c *Config) { c.Phases[0].For = time.Hour },
		"a phase without events":        func(c *Config) { c.Phases[0].Rate = 0 },
		"more topics than viewers":      func(c *Config) { c.Topics = 9 },
		"no topic":                      func(c *Config) { c.Topics = 0 },
		"too many positions":            func(c *Config) { c.Topics, c.Positions = 1, maxPositions+1 },
		"events while nobody resumes":   func(c *Config) { c.During = 5 },
		"listening and writing":         func(c *Config) { c.Topics, c.Listen = 1, "w" },
		"positions in many topics":      func(c *Config) { c.Positions = 5 },
		"topics beyond what may be had": func(c *Config) { c.Topics, c.Viewers = maxTopics+1, maxTopics+1 },
	} {
		c := good
		c.Phases = []Phase{good.Phases[0]}
		change(&c)
		if c.check() == nil {
			t.Errorf("%s is possible", name)
		}
	}
}

func TestSaturated(t *testing.T) {
	for _, tt := range []struct {
		server, load, redis float64
		want                string
	}{
		{1, 1, .5, "neither core"}, {1.95, 1, .5, "the server's core"}, {1, 1.5, .4, "the core of load and Redis"}, {1.99, 1.9, .1, "both cores"},
	} {
		p := PhaseResult{Seconds: 2, CPUSeconds: tt.server, LoadCPUSeconds: tt.load, RedisCPUSeconds: tt.redis}
		if got := p.Saturated(); !strings.HasPrefix(got, tt.want+" saturated: server") {
			t.Errorf("%+v: %q", tt, got)
		}
	}
}

func TestResumingViewersLackNothing(t *testing.T) {
	for _, tt := range []struct {
		seen viewers.Counts
		want int64
	}{
		{viewers.Counts{Delivered: 10}, 0}, {viewers.Counts{Delivered: 8}, 2}, {viewers.Counts{Delivered: 9, Lost: 1}, 1},
		{viewers.Counts{Delivered: 11}, 1}, {viewers.Counts{Delivered: 10, Gaps: 1, Duplicates: 2, Closed: 3}, 6},
	} {
		if got := (&Attach{Expected: 10, Seen: &tt.seen}).Failures(); got != tt.want {
			t.Errorf("%+v: %d lack, want %d", tt.seen, got, tt.want)
		}
	}
	if (*Attach)(nil).Failures() != 0 {
		t.Error("who did not come lacks something")
	}
}
