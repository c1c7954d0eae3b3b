package test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/runcast/runcast/internal/apiservice"
	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/internal/subscriberservice"
	"github.com/runcast/runcast/internal/workerservice"
)

func composeProject(t *testing.T, profiles ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(repository, "docker-compose.yml")}, cli.WithEnv(nil), cli.WithProfiles(profiles))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// ours are the services that are built from this repository, with how their
// programs read their settings. The function returns the address that the
// program listens on, and fails on what the program would refuse.
var ours = map[string]func(env settings.Env) (addr string, err error){
	"api": func(env settings.Env) (string, error) {
		var c apiservice.Config
		err := settings.Parse("api", "", &c, nil, env, io.Discard)
		return c.Addr, err
	},
	"worker": func(env settings.Env) (string, error) {
		var c workerservice.Config
		err := settings.Parse("worker", "", &c, nil, env, io.Discard)
		return c.Addr, err
	},
	"subscriber": func(env settings.Env) (string, error) {
		var c subscriberservice.Config
		err := settings.Parse("subscriber", "", &c, nil, env, io.Discard)
		return c.Subscriber.Addr, err
	},
}

func environment(s types.ServiceConfig) settings.Env {
	env := settings.Env{}
	for name, value := range s.Environment {
		if value != nil {
			env[name] = *value
		}
	}
	return env
}

func TestComposeHasTheServices(t *testing.T) {
	want := []string{"api", "redis", "subscriber", "temporal", "worker"}
	if got := slices.Sorted(slices.Values(composeProject(t).ServiceNames())); !slices.Equal(got, want) {
		t.Errorf("services %q, want %q", got, want)
	}
	project := composeProject(t, "metrics")
	want = slices.Sorted(slices.Values(append(want, "grafana", "prometheus")))
	if got := slices.Sorted(slices.Values(project.ServiceNames())); !slices.Equal(got, want) {
		t.Errorf("with metrics there are the services %q, want %q", got, want)
	}
	pinned := regexp.MustCompile(`:v?\d+\.\d+\.\d+(-[a-z0-9.]+)?$`)
	for name, s := range project.Services {
		if ours[name] == nil && !pinned.MatchString(s.Image) {
			t.Errorf("%s: image %q is not pinned to a version", name, s.Image)
		}
		if s.HealthCheck == nil || s.HealthCheck.Disable || len(s.HealthCheck.Test) < 2 {
			t.Errorf("%s has no health check", name)
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes port %d on %q, not on loopback", name, port.Target, port.HostIP)
			}
		}
		if s.Privileged || s.NetworkMode == "host" {
			t.Errorf("%s has the run of the host", name)
		}
	}
}

// The command is given to an installed Redis, which must understand it.
func TestComposeKeepsWhatRedisHolds(t *testing.T) {
	service := composeProject(t).Services["redis"]
	if !slices.ContainsFunc(service.Volumes, func(v types.ServiceVolumeConfig) bool { return v.Type == "volume" && v.Target == "/data" }) {
		t.Errorf("Redis has no volume at /data: %+v", service.Volumes)
	}
	addr := startRedis(t, service.Command[1:]...)
	c := redisClient(t, addr, "")
	for name, want := range map[string]string{
		"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction",
		"hash-max-listpack-value": "1024", // docs/wire-contract.md
	} {
		if got, err := c.ConfigGet(t.Context(), name).Result(); err != nil || got[name] != want {
			t.Errorf("%s is %q (%v), want %q", name, got[name], err, want)
		}
	}
	if got, err := c.ConfigGet(t.Context(), "maxmemory").Result(); err != nil || got["maxmemory"] == "0" {
		t.Errorf("memory is not bounded: %q, %v", got, err)
	}
}

// Every variable must be one that the program reads, with a value that it
// takes, and every address one where something is.
func TestComposeVariablesAreTheProgramsOwn(t *testing.T) {
	project := composeProject(t)
	configs := map[string]any{"api": &apiservice.Config{}, "worker": &workerservice.Config{}, "subscriber": &subscriberservice.Config{}}
	for name, read := range ours {
		s := project.Services[name]
		env := environment(s)
		addr, err := read(env)
		if err != nil {
			t.Errorf("%s would refuse its environment: %v", name, err)
			continue
		}
		known, _, err := settings.Variables(configs[name])
		if err != nil {
			t.Fatal(err)
		}
		for variable, value := range env {
			if !strings.HasPrefix(variable, "TEMPORAL_") && !slices.Contains(known, variable) {
				t.Errorf("%s does not read %s", name, variable)
			}
			if strings.HasPrefix(variable, "TEMPORAL_") && name == "subscriber" {
				t.Errorf("the subscriber is given %s, and must never know Temporal", variable)
			}
			for _, problem := range addressProblems(project, name, variable, value) {
				t.Error(problem)
			}
		}
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Errorf("%s listens on %q: %v", name, addr, err)
			continue
		}
		for _, p := range s.Ports {
			if strconv.FormatUint(uint64(p.Target), 10) != port {
				t.Errorf("%s publishes port %d, but listens on %s", name, p.Target, addr)
			}
			if host, _, _ := net.SplitHostPort(addr); host != "0.0.0.0" {
				t.Errorf("%s publishes a port, but listens on %s only", name, addr)
			}
		}
		if check := s.HealthCheck.Test; !strings.HasSuffix(check[len(check)-1], ":"+port+"/readyz") {
			t.Errorf("the health check of %s is %q, but it listens on port %s", name, check, port)
		}
	}
}

// The files say how the programs are asked for their health; here they are
// started and asked so, with the servers that they need away: an answer of
// 503 shows the route, and the command in the image the right exit code.
func TestComposeHealthChecksWork(t *testing.T) {
	project := composeProject(t)
	runcast := build(t, "./cmd/runcast")
	for name := range ours {
		t.Run(name, func(t *testing.T) {
			s := project.Services[name]
			binary := build(t, "./cmd/"+name)
			addr := freeAddr(t)
			var env []string
			for variable, value := range environment(s) {
				switch {
				case strings.HasSuffix(variable, "_ADDR"):
					value = addr
				case variable == "REDIS_URL":
					value = "redis://127.0.0.1:1"
				case variable == "TEMPORAL_ADDRESS":
					value = "127.0.0.1:1"
				}
				env = append(env, variable+"="+value)
			}
			start(t, env, binary)
			check := s.HealthCheck.Test
			asked, err := url.Parse(check[len(check)-1])
			if err != nil {
				t.Fatal(err)
			}
			asked.Host = addr
			within(t, 20*time.Second, "an answer of "+name, func(ctx context.Context) error {
				return expectStatus(ctx, asked.String(), http.StatusServiceUnavailable)
			})
			args := append(slices.Clone(check[2:len(check)-1]), asked.String())
			err = exec.CommandContext(t.Context(), runcast, args...).Run()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 {
				t.Errorf("runcast %q: %v, want exit code 1", args, err)
			}
			asked.Path = "/livez"
			if err := exec.CommandContext(t.Context(), runcast, "health", asked.String()).Run(); err != nil {
				t.Errorf("runcast health %s: %v", asked, err)
			}
		})
	}
}

func expectStatus(ctx context.Context, url string, want int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != want {
		return fmt.Errorf("%s answered %s, want %d", url, res.Status, want)
	}
	return nil
}

// freeAddr returns a loopback address that was free a moment ago, each once.
func freeAddr(t *testing.T) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		_ = l.Close() // another is to listen there
		if _, given := givenAddrs.LoadOrStore(addr, true); !given {
			return addr
		}
	}
}

// givenAddrs are those that freeAddr has returned: the system gives out anew
// what nobody listens on yet.
var givenAddrs sync.Map
