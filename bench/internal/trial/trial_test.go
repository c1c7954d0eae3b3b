package trial

import (
	"testing"
	"time"
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
