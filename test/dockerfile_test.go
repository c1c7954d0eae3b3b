package test

import (
	"encoding/json"
	"net"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// stage is one FROM of the Dockerfile with what follows it.
type stage struct {
	base         string
	instructions []instruction
}

type instruction struct{ name, args string }

// readDockerfile reads as much of the language as the file uses: one
// instruction per line, with comments between them.
func readDockerfile(t *testing.T) map[string]*stage {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "deployments/Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	stages := make(map[string]*stage)
	var current *stage
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.HasSuffix(line, `\`) {
			t.Fatalf("this test does not read continued lines: %q", line)
		}
		name, args, _ := strings.Cut(line, " ")
		if name == "FROM" {
			base, as, ok := strings.Cut(args, " AS ")
			if !ok {
				t.Fatalf("a stage without a name: %q", line)
			}
			current = &stage{base: base}
			stages[as] = current
			continue
		}
		if current == nil {
			t.Fatalf("%q stands before the first FROM", line)
		}
		current.instructions = append(current.instructions, instruction{name, args})
	}
	return stages
}

// lineage returns the instructions of a stage and of those it builds on.
func lineage(stages map[string]*stage, name string) (all []instruction, base string) {
	s := stages[name]
	if s == nil {
		return nil, name
	}
	all, base = lineage(stages, s.base)
	return append(all, s.instructions...), base
}

// execForm returns the words of a command in JSON form. A scratch image has
// no shell for the other form.
func execForm(t *testing.T, args string) []string {
	t.Helper()
	var words []string
	if err := json.Unmarshal([]byte(args), &words); err != nil || len(words) == 0 {
		t.Fatalf("%q is not in exec form: %v", args, err)
	}
	return words
}

func TestDockerfileBuildsWhatComposeRuns(t *testing.T) {
	stages := readDockerfile(t)
	built := builtBinaries(t, stages["build"])
	project := composeProject(t)
	for name := range ours {
		s := project.Services[name]
		if s.Build == nil || s.Build.Target != name || filepath.Clean(s.Build.Context) != repository {
			t.Errorf("%s is built by %+v", name, s.Build)
			continue
		}
		if _, err := os.Stat(filepath.Join(s.Build.Context, s.Build.Dockerfile)); err != nil {
			t.Error(err)
		}
		instructions, base := lineage(stages, s.Build.Target)
		if base != "scratch" {
			t.Errorf("the image of %s is built on %q", name, base)
		}
		inside := map[string]bool{}
		var entry, health []string
		user, exposed := "", ""
		for _, in := range instructions {
			switch in.name {
			case "COPY":
				words := strings.Fields(in.args)
				if len(words) != 3 || words[0] != "--from=build" {
					t.Errorf("%s: COPY %s", name, in.args)
					continue
				}
				if strings.HasPrefix(words[1], "/out/") && !slices.Contains(built, path.Base(words[1])) {
					t.Errorf("%s copies %s, which is not built", name, words[1])
				}
				inside[words[2]] = true
			case "EXPOSE":
				exposed = in.args
			case "USER":
				user = in.args
			case "ENTRYPOINT":
				entry = execForm(t, in.args)
			case "HEALTHCHECK":
				_, command, ok := strings.Cut(in.args, "CMD ")
				if !ok {
					t.Errorf("%s: HEALTHCHECK %s", name, in.args)
					continue
				}
				health = execForm(t, command)
			}
		}
		addr, err := ours[name](environment(s))
		if _, port, splitErr := net.SplitHostPort(addr); err != nil || splitErr != nil || port != exposed {
			t.Errorf("%s exposes %q, and listens on %q (%v, %v)", name, exposed, addr, err, splitErr)
		}
		if uid, _, _ := strings.Cut(user, ":"); uid == "" || uid == "0" || uid == "root" {
			t.Errorf("%s runs as %q", name, user)
		}
		if len(entry) != 1 || path.Base(entry[0]) != name || !inside[entry[0]] {
			t.Errorf("the image of %s starts %q; it holds %v", name, entry, inside)
		}
		// Compose replaces the image's check; both must be the same question,
		// put by a program that is there.
		check := s.HealthCheck.Test
		if check[0] != "CMD" || !slices.Equal(check[1:], health) || !inside[check[1]] {
			t.Errorf("%s: compose asks %q, the image %q; it holds %v", name, check, health, inside)
		}
		if len(s.Entrypoint)+len(s.Command) > 0 {
			t.Errorf("%s: compose replaces the entry point", name)
		}
	}
}

// builtBinaries returns the names of what the build stage builds.
func builtBinaries(t *testing.T, s *stage) []string {
	t.Helper()
	if s == nil {
		t.Fatal("there is no stage named build")
	}
	var names []string
	for _, in := range s.instructions {
		words := strings.Fields(in.args)
		if in.name != "RUN" || len(words) < 2 || words[0] != "go" || words[1] != "build" {
			continue
		}
		for _, word := range words {
			if !strings.HasPrefix(word, "./") {
				continue
			}
			if got := strings.TrimSpace(goCommand(t, repository, "list", "-f", "{{.Name}}", word)); got != "main" {
				t.Errorf("the Dockerfile builds %s, which is package %s", word, got)
			}
			names = append(names, path.Base(word))
		}
	}
	if len(names) == 0 {
		t.Fatal("the stage named build builds nothing")
	}
	return names
}

func TestDockerfileUsesTheModulesGo(t *testing.T) {
	base := readDockerfile(t)["build"].base
	image := regexp.MustCompile(`^golang:(\d+\.\d+)\.\d+-bookworm$`).FindStringSubmatch(base)
	if image == nil {
		t.Fatalf("the build stage is on %q, not on a pinned golang image", base)
	}
	text, err := os.ReadFile(filepath.Join(repository, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	wants := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(text))
	if wants == nil || wants[1] != image[1] {
		t.Errorf("the image has Go %s, go.mod wants %q", image[1], wants)
	}
}

// What .dockerignore leaves out must be nothing that is built.
func TestDockerignoreLeavesTheSourcesIn(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			if strings.ContainsAny(line, "*?![") {
				t.Fatalf("this test reads plain paths only: %q", line)
			}
			left = append(left, line)
		}
	}
	dirs := goCommand(t, repository, "list", "-deps", "-f", "{{if not .Standard}}{{.Dir}}{{end}}",
		"./cmd/api", "./cmd/worker", "./cmd/subscriber", "./cmd/runcast")
	files := []string{"go.mod", "go.sum"}
	for dir := range strings.Lines(dirs) {
		if rel, err := filepath.Rel(repository, strings.TrimSpace(dir)); err == nil && !strings.HasPrefix(rel, "..") {
			files = append(files, rel)
		}
	}
	if len(files) < 10 {
		t.Fatalf("only %q are built from this repository", files)
	}
	for _, file := range files {
		for _, out := range left {
			if file == out || strings.HasPrefix(file, out+"/") {
				t.Errorf("%s is built, and left out by %q", file, out)
			}
		}
	}
}
