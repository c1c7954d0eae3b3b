package test

import (
	"net"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v3"

	"github.com/runcast/runcast/internal/settings"
)

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

type scrapes struct {
	Global struct {
		Interval string `yaml:"scrape_interval"`
	}
	Configs []struct {
		Job    string                       `yaml:"job_name"`
		Static []struct{ Targets []string } `yaml:"static_configs"`
		Path   string                       `yaml:"metrics_path"`
	} `yaml:"scrape_configs"`
}

// scraped returns the one target of each job.
func scraped(t *testing.T, file string) map[string]string {
	t.Helper()
	var s scrapes
	readYAML(t, file, &s)
	targets := make(map[string]string)
	for _, c := range s.Configs {
		if len(c.Static) != 1 || len(c.Static[0].Targets) != 1 || c.Path != "" {
			t.Fatalf("%s: %s is not one target with the usual path", file, c.Job)
		}
		targets[c.Job] = c.Static[0].Targets[0]
	}
	if len(targets) != len(ours) {
		t.Errorf("%s: jobs %q, want one for each program", file, targets)
	}
	return targets
}

// mounted returns the file or folder of this repository that a service sees at
// a path; "" if none.
func mounted(s types.ServiceConfig, at string) string {
	for _, v := range s.Volumes {
		if below, ok := strings.CutPrefix(at, v.Target); ok && v.Type == "bind" && v.ReadOnly && (below == "" || below[0] == '/') {
			return filepath.Join(v.Source, below)
		}
	}
	return ""
}

func publishes(s types.ServiceConfig, port string) bool {
	return slices.ContainsFunc(s.Ports, func(p types.ServicePortConfig) bool {
		return strconv.FormatUint(uint64(p.Target), 10) == port
	})
}

// Prometheus asks the programs where they listen, inside the network and with
// their defaults.
func TestComposePrometheusAsksThePrograms(t *testing.T) {
	project := composeProject(t, "metrics")
	s := project.Services["prometheus"]
	config := ""
	for _, arg := range s.Command {
		if file, ok := strings.CutPrefix(arg, "--config.file="); ok {
			config = mounted(s, file)
		}
	}
	if config == "" {
		t.Fatalf("no file of this repository is its config: %q", s.Command)
	}
	inside := scraped(t, config)
	outside := scraped(t, filepath.Join(repository, "deployments", "grafana", "prometheus.yml"))
	for name, read := range ours {
		addr, err := read(environment(project.Services[name]))
		if err != nil {
			t.Fatal(err)
		}
		host, port, err := net.SplitHostPort(addr)
		if err != nil || host != "0.0.0.0" {
			t.Errorf("%s listens on %q only, and is asked from outside: %v", name, addr, err)
		}
		if want := net.JoinHostPort(name, port); inside[name] != want {
			t.Errorf("%s is asked at %q, want %q", name, inside[name], want)
		}
		if addr, err = read(settings.Env{}); err != nil {
			t.Fatal(err)
		}
		if outside[name] != addr {
			t.Errorf("%s is asked at %q, but listens on %q by default", name, outside[name], addr)
		}
	}
}

// Grafana finds Prometheus, and the dashboards in the folder where they are.
func TestComposeGrafanaIsProvisioned(t *testing.T) {
	project := composeProject(t, "metrics")
	s := project.Services["grafana"]
	var sources struct {
		Datasources []struct {
			Type, URL string
			JSONData  struct {
				Interval string `yaml:"timeInterval"`
			} `yaml:"jsonData"`
		}
	}
	readYAML(t, filepath.Join(mounted(s, "/etc/grafana/provisioning/datasources"), "prometheus.yml"), &sources)
	if len(sources.Datasources) != 1 || sources.Datasources[0].Type != "prometheus" {
		t.Fatalf("data sources %+v, want Prometheus", sources.Datasources)
	}
	source := sources.Datasources[0]
	u, err := url.Parse(source.URL)
	if err != nil {
		t.Fatal(err)
	}
	if u.Scheme != "http" || u.Hostname() != "prometheus" || !publishes(project.Services["prometheus"], u.Port()) {
		t.Errorf("Prometheus is asked at %q, where it is not", source.URL)
	}
	for _, file := range []string{"prometheus.yml", "prometheus-compose.yml"} {
		var config scrapes
		readYAML(t, filepath.Join(repository, "deployments", "grafana", file), &config)
		if config.Global.Interval != source.JSONData.Interval {
			t.Errorf("%s asks every %q, and the data source says %q", file, config.Global.Interval, source.JSONData.Interval)
		}
	}

	var dashboards struct {
		Providers []struct{ Options struct{ Path string } }
	}
	readYAML(t, filepath.Join(mounted(s, "/etc/grafana/provisioning/dashboards"), "runcast.yml"), &dashboards)
	if len(dashboards.Providers) != 1 {
		t.Fatalf("providers %+v, want one", dashboards.Providers)
	}
	home := environment(s)["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
	if folder := dashboards.Providers[0].Options.Path; path.Dir(home) != folder {
		t.Errorf("the first page is %q, but dashboards are in %q", home, folder)
	}
	if _, err := os.Stat(mounted(s, home)); err != nil {
		t.Errorf("the first page is %q: %v", home, err)
	}
	for _, service := range []string{"grafana", "prometheus"} {
		for _, v := range project.Services[service].Volumes {
			if _, err := os.Stat(v.Source); v.Type == "bind" && err != nil {
				t.Errorf("%s mounts what is not there: %v", service, err)
			}
		}
	}
}
