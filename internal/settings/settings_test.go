package settings_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/runcast/runcast/internal/settings"
)

type config struct {
	Every time.Duration    `name:"every" from:"RUNCAST_RECONCILE_EVERY" default:"10s" help:"How often."`
	Names settings.Origins `name:"allowed-origins" from:"RUNCAST_ALLOWED_ORIGINS" help:"Which."`
	Redis settings.Redis   `embed:""`
	Log   settings.Log     `embed:""`
}

func (c *config) Validate() error {
	if c.Every <= 0 {
		return fmt.Errorf("--every (RUNCAST_RECONCILE_EVERY): %v is not positive", c.Every)
	}
	return nil
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		env  []string
		want config
		err  string
	}{
		{name: "defaults", want: config{Every: 10 * time.Second}},
		{name: "a variable", env: []string{"RUNCAST_RECONCILE_EVERY=3s"}, want: config{Every: 3 * time.Second}},
		{name: "a flag wins", args: []string{"--every=1s"}, env: []string{"RUNCAST_RECONCILE_EVERY=3s"}, want: config{Every: time.Second}},
		{name: "empty is not set", env: []string{"RUNCAST_RECONCILE_EVERY="}, want: config{Every: 10 * time.Second}},
		{
			name: "a list", env: []string{"RUNCAST_ALLOWED_ORIGINS=http://a.example,https://b.example:8443"},
			want: config{Every: 10 * time.Second, Names: settings.Origins{"http://a.example", "https://b.example:8443"}},
		},
		{name: "others' variables", env: []string{"PATH=/bin", "RUNCAST_TEST_X=1", "RUNCAST_API_ADDR=x"}, want: config{Every: 10 * time.Second}},
		{name: "unknown variable", env: []string{"RUNCAST_ALOWED_ORIGINS=*"}, err: "RUNCAST_ALOWED_ORIGINS"},
		{name: "unknown flag", args: []string{"--evry=1s"}, err: "--evry"},
		{name: "bad value", env: []string{"RUNCAST_RECONCILE_EVERY=often"}, err: "--every"},
		{name: "bad setting", args: []string{"--every=0s"}, err: "RUNCAST_RECONCILE_EVERY"},
		{name: "star and more", args: []string{"--allowed-origins=*,http://a.example"}, err: "RUNCAST_ALLOWED_ORIGINS"},
		{name: "no origin", args: []string{"--allowed-origins=http://a.example/"}, err: "RUNCAST_ALLOWED_ORIGINS"},
		{name: "bad enum", env: []string{"RUNCAST_LOG_FORMAT=xml"}, err: "--log-format"},
		{name: "argument", args: []string{"more"}, err: "more"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got config
			err := settings.Parse("x", "A program.", &got, tt.args, settings.EnvOf(tt.env), &bytes.Buffer{})
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v does not name %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Redis.URL != "redis://127.0.0.1:6379" || got.Log.Format != "text" {
				t.Errorf("defaults of the groups: %+v", got)
			}
			got.Redis, got.Log = tt.want.Redis, tt.want.Log
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestProxies(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/8,::1": "[10.0.0.0/8 ::1/128]",
		"192.0.2.7":      "[192.0.2.7/32]",
		"10.1.2.3/8":     "[10.0.0.0/8]",
		"all":            "",
		"10.0.0.0/8,":    "",
	} {
		var c struct {
			Proxies settings.Proxies `name:"proxies" from:"RUNCAST_TRUSTED_PROXIES" help:"Which."`
		}
		err := settings.Parse("x", "A program.", &c, nil, settings.Env{"RUNCAST_TRUSTED_PROXIES": text}, &bytes.Buffer{})
		if want == "" {
			if err == nil || !strings.Contains(err.Error(), "--proxies") {
				t.Errorf("%q: got %v, %v", text, c.Proxies, err)
			}
		} else if got := fmt.Sprint(c.Proxies); err != nil || got != want {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
}

func TestHelp(t *testing.T) {
	var out bytes.Buffer
	err := settings.Parse("x", "A program.", &config{}, []string{"--help"}, nil, &out)
	if !errors.Is(err, settings.ErrHelp) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"A program.", "--every", "$RUNCAST_RECONCILE_EVERY", "$REDIS_URL"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the help does not name %s:\n%s", want, &out)
		}
	}
}

func TestVariables(t *testing.T) {
	var c struct {
		A string `from:"RUNCAST_NEW"`
		B string `from:"RUNCAST_LOG_LEVEL"`
		C string `from:"OTHER"`
		D string
	}
	names, missing, err := settings.Variables(&c)
	if err != nil || !slices.Equal(names, []string{"RUNCAST_NEW", "RUNCAST_LOG_LEVEL", "OTHER"}) || !slices.Equal(missing, []string{"RUNCAST_NEW"}) {
		t.Errorf("got %v, %v, %v", names, missing, err)
	}
}

func TestEnv(t *testing.T) {
	env := settings.EnvOf([]string{"B=2=3", "A=1", "broken"})
	if v, ok := env.LookupEnv("B"); v != "2=3" || !ok {
		t.Errorf("B is %q, %v", v, ok)
	}
	if got := env.Environ(); !slices.Equal(got, []string{"A=1", "B=2=3"}) {
		t.Errorf("got %q", got)
	}
}
