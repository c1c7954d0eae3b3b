package test

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/internal/temporalenv"
)

// The ports that the two servers have inside the network.
const (
	temporalPort = "7233"
	temporalUI   = "8233"
	redisPort    = "6379"
)

// means says which service an address in a variable is that of, and under
// which of its ports. Inside the network the programs themselves connect;
// outside, a browser on this machine does.
var means = map[string]struct {
	service, port string
	inside        bool
}{
	"TEMPORAL_ADDRESS":        {"temporal", temporalPort, true},
	"REDIS_URL":               {"redis", redisPort, true},
	"RUNCAST_API_URL":         {"api", "8081", false},
	"RUNCAST_CALLBACK_URL":    {"api", "8081", true}, // workers call it
	"RUNCAST_SUBSCRIBER_URL":  {"subscriber", "8080", false},
	"RUNCAST_ALLOWED_ORIGINS": {"subscriber", "8080", false},
	"RUNCAST_TEMPORAL_UI_URL": {"temporal", temporalUI, false},
}

// addressProblems holds the addresses in a variable against the services:
// inside the network by a service's name and port, outside by the port that
// this very service publishes.
func addressProblems(project *types.Project, service, variable, value string) (problems []string) {
	complain := func(format string, args ...any) {
		problems = append(problems, fmt.Sprintf("%s: %s is %q: ", service, variable, value)+fmt.Sprintf(format, args...))
	}
	want, known := means[variable]
	if !known {
		if strings.Contains(value, "://") {
			complain("this test does not know whose address it is")
		}
		return problems
	}
	for one := range strings.SplitSeq(value, ",") {
		address := one
		if variable != "TEMPORAL_ADDRESS" {
			u, err := url.Parse(one)
			if err != nil || u.Host == "" {
				complain("%q is no URL", one)
				continue
			}
			address = u.Host
		}
		host, port, err := net.SplitHostPort(address)
		switch {
		case err != nil:
			complain("%v", err)
		case want.inside && (host != want.service || port != want.port):
			complain("want %s:%s", want.service, want.port)
		case want.inside && service == want.service:
			// its own address, as others reach it
		case want.inside:
			depends, ok := project.Services[service].DependsOn[want.service]
			if !ok || depends.Condition != types.ServiceConditionHealthy || !depends.Required {
				complain("%s waits for %s by %+v, want until it is healthy", service, want.service, depends)
			}
		case host != "127.0.0.1" && host != "localhost":
			complain("a browser on this machine does not find %s", host)
		case !slices.ContainsFunc(project.Services[want.service].Ports, func(p types.ServicePortConfig) bool {
			return p.Published == port && strconv.FormatUint(uint64(p.Target), 10) == want.port
		}):
			complain("%s publishes no port %s for its %s", want.service, port, want.port)
		}
	}
	return problems
}

// The check itself finds what people get wrong.
func TestComposeAddressCheck(t *testing.T) {
	for _, tt := range []struct {
		name, service, variable, value string
		change                         func(p *types.Project)
		problem                        string
	}{
		{name: "as it is", service: "api", variable: "RUNCAST_SUBSCRIBER_URL", value: "http://127.0.0.1:8080"},
		{"the other service's port", "api", "RUNCAST_SUBSCRIBER_URL", "http://127.0.0.1:8081", nil, "subscriber publishes no port 8081"},
		{"the other one's, the other way", "subscriber", "RUNCAST_API_URL", "http://127.0.0.1:8080", nil, "api publishes no port 8080"},
		{"a name inside, for a browser", "subscriber", "RUNCAST_API_URL", "http://api:8081", nil, "does not find api"},
		{"another server", "worker", "REDIS_URL", "redis://temporal:6379", nil, "want redis:6379"},
		{"another port", "worker", "TEMPORAL_ADDRESS", "temporal:8233", nil, "want temporal:7233"},
		{"no URL", "worker", "REDIS_URL", "redis", nil, "no URL"},
		{"an address of nobody", "worker", "RUNCAST_NEW_URL", "http://127.0.0.1:1", nil, "does not know"},
		{"nothing is waited for", "worker", "TEMPORAL_ADDRESS", "temporal:7233", func(p *types.Project) {
			s := p.Services["worker"]
			s.DependsOn = types.DependsOnConfig{"redis": s.DependsOn["redis"]}
			p.Services["worker"] = s
		}, "waits for temporal"},
		{"only its start is waited for", "subscriber", "REDIS_URL", "redis://redis:6379", func(p *types.Project) {
			s := p.Services["subscriber"]
			s.DependsOn = types.DependsOnConfig{"redis": {Condition: types.ServiceConditionStarted, Required: true}}
			p.Services["subscriber"] = s
		}, "healthy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			project := composeProject(t)
			if tt.change != nil {
				tt.change(project)
			}
			got := addressProblems(project, tt.service, tt.variable, tt.value)
			if tt.problem == "" && len(got) > 0 || tt.problem != "" && (len(got) != 1 || !strings.Contains(got[0], tt.problem)) {
				t.Errorf("it finds %q, want %q", got, tt.problem)
			}
		})
	}
}

// Every program is told where its servers are.
func TestComposeNamesTheServers(t *testing.T) {
	project := composeProject(t)
	for name := range ours {
		env := environment(project.Services[name])
		for variable, want := range means {
			if variable == "RUNCAST_CALLBACK_URL" && name != want.service {
				continue // only the API gives its own address away
			}
			if want.inside && (variable != "TEMPORAL_ADDRESS" || name != "subscriber") && env[variable] == "" {
				t.Errorf("%s is not given %s", name, variable)
			}
		}
	}
}

// flagValue returns what follows a flag in a command.
func flagValue(command []string, flag string) string {
	if i := slices.Index(command, flag); i >= 0 && i+1 < len(command) {
		return command[i+1]
	}
	return ""
}

// The Temporal server keeps its data in a volume, has the namespace that the
// programs use, and is asked for its health where it listens.
func TestComposeTemporalIsWhatTheProgramsExpect(t *testing.T) {
	s := composeProject(t).Services["temporal"]
	options, err := temporalenv.Load(settings.Env{}, settings.Payloads{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if got := flagValue(s.Command, "--namespace"); got != options.Namespace {
		t.Errorf("it has the namespace %q, the programs use %q", got, options.Namespace)
	}
	file := flagValue(s.Command, "--db-filename")
	if !slices.ContainsFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool { return v.Type == "volume" && v.Target == path.Dir(file) }) {
		t.Errorf("it keeps its data in %q, which is in none of its volumes %+v", file, s.Volumes)
	}
	// Ports that the command sets would be others than those that are
	// published.
	for _, flag := range []string{"--port", "-p", "--ui-port"} {
		if flagValue(s.Command, flag) != "" {
			t.Errorf("the command sets %s; this test does not", flag)
		}
	}
	if got := flagValue(s.Command, "--ip"); got != "0.0.0.0" {
		t.Errorf("it listens on %q only, and is published", got)
	}
	if got := flagValue(s.HealthCheck.Test, "--address"); got != "127.0.0.1:"+temporalPort {
		t.Errorf("its health is asked for at %q", got)
	}
	var targets []string
	for _, p := range s.Ports {
		targets = append(targets, strconv.FormatUint(uint64(p.Target), 10))
	}
	if slices.Sort(targets); !slices.Equal(targets, []string{temporalPort, temporalUI}) {
		t.Errorf("it publishes %q", targets)
	}
}
