package floors

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/runcast/runcast"

// floors are the floors of the packages, by their path in the module. A
// package may import those of lower floors only, and what arrows allows.
var floors = map[string]int{
	"pkg/progress": 0,
	"pkg/message":  0,

	"pkg/redisstore": 1,
	"pkg/problem":    1,

	// What programs start with; free of Temporal but for the one that says so.
	"internal/settings":     1,
	"internal/httpserve":    1,
	"internal/redischeck":   1,
	"internal/redislog":     1,
	"internal/statsmetrics": 1,
	"internal/choice":       1,
	"internal/temporalenv":  2,
	"internal/closeevent":   1,

	"pkg/twiliohook":   1,
	"pkg/twiliosend":   1,
	"pkg/agents":       1,
	"pkg/payloadcodec": 1,
	"pkg/handlers":     1,
	"pkg/webhook":      1,

	"pkg/reporter": 2,
	"pkg/httpapi":  2,
	"pkg/strategy": 2,
	"pkg/delivery": 2,
	"activities":   2,

	"pkg/conversation": 2,

	"workflows":       3,
	"subscriber/hub":  3,
	"subscriber/sse":  3,
	"subscriber/ws":   3,
	"subscriber/page": 3,

	"subscriber":        4,
	"subscriber/follow": 4,

	"subscriber/strategies": 5,

	// The programs: settings and wiring here, so that cmd/dev runs the same.
	"internal/apiservice":        5,
	"internal/workerservice":     5,
	"internal/subscriberservice": 5,
	"cmd/api":                    5,
	"cmd/worker":                 5,
	"cmd/subscriber":             5,
	"cmd/runcast":                5,
}

// arrows are the imports within a floor that the design has.
var arrows = map[string][]string{
	"activities":     {"pkg/reporter", "pkg/conversation"},
	"subscriber/sse": {"subscriber/hub"},
	"subscriber/ws":  {"subscriber/hub"},
	"cmd/api":        {"internal/apiservice"},

	"internal/apiservice": {"subscriber/strategies"},

	"cmd/worker":     {"internal/workerservice"},
	"cmd/subscriber": {"internal/subscriberservice"},
}

// testOnly are packages that only tests may import.
var testOnly = []string{"internal/testenv", "internal/cable", "internal/floors"}

// pkg is what `go list` says of a package.
type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string
}

// violations returns what is wrong with the imports of the module's packages.
func violations(pkgs []pkg) []string {
	var wrong []string
	for _, p := range pkgs {
		from := strings.TrimPrefix(p.ImportPath, module+"/")
		if slices.Contains(testOnly, from) {
			continue
		}
		floor, ok := floors[from]
		if !ok {
			wrong = append(wrong, from+" has no floor; give it one in this test")
			continue
		}
		for _, imp := range p.Imports {
			to, ours := strings.CutPrefix(imp, module+"/")
			if !ours {
				continue
			}
			below, ok := floors[to]
			switch {
			case slices.Contains(testOnly, to):
				wrong = append(wrong, from+" imports "+to+", which is for tests")
			case !ok || below > floor:
				wrong = append(wrong, from+" imports "+to+", which is above it")
			case below == floor && !slices.Contains(arrows[from], to):
				wrong = append(wrong, from+" imports "+to+", which is beside it")
			}
		}
	}
	return wrong
}

func TestImportsPointDown(t *testing.T) {
	pkgs := list(t, "./...")
	pkgs = slices.DeleteFunc(pkgs, func(p pkg) bool { return p.ImportPath == module+"/internal/deps" })
	if len(pkgs) < len(floors) {
		t.Errorf("only %d packages of %d were found", len(pkgs), len(floors))
	}
	for _, v := range violations(pkgs) {
		t.Error(v)
	}
}

func TestViolations(t *testing.T) {
	of := func(from string, to ...string) pkg {
		p := pkg{ImportPath: module + "/" + from, Imports: []string{"fmt", "github.com/redis/go-redis/v9"}}
		for _, imp := range to {
			p.Imports = append(p.Imports, module+"/"+imp)
		}
		return p
	}
	for _, tt := range []struct {
		pkg  pkg
		want string
	}{
		{of("pkg/redisstore", "pkg/progress"), ""},
		{of("activities", "pkg/reporter"), ""},
		{of("subscriber/ws", "subscriber/hub", "pkg/progress"), ""},
		{of("pkg/progress", "pkg/redisstore"), "above"},
		{of("pkg/reporter", "activities"), "beside"},
		{of("subscriber/sse", "subscriber/ws"), "beside"},
		{of("subscriber/hub", "subscriber"), "above"},
		{of("workflows", "internal/testenv"), "for tests"},
		{of("pkg/newcomer"), "no floor"},
	} {
		got := strings.Join(violations([]pkg{tt.pkg}), "; ")
		if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s importing %v: got %q, want %q", tt.pkg.ImportPath, tt.pkg.Imports, got, tt.want)
		}
	}
}

// A viewer costs no call to Temporal; then the service needs none of its code.
func TestSubscriberIsFreeOfTemporal(t *testing.T) {
	for _, root := range []string{"./subscriber/...", "./cmd/subscriber", "./internal/subscriberservice"} {
		deps := list(t, "-deps", root)
		if len(deps) < 50 {
			t.Fatalf("%s: only %d dependencies were found", root, len(deps))
		}
		for _, p := range deps {
			if strings.HasPrefix(p.ImportPath, "go.temporal.io/") {
				t.Errorf("%s depends on %s", root, p.ImportPath)
			}
		}
	}
}

func TestGroundFloorImportsTheStandardLibraryOnly(t *testing.T) {
	for _, ground := range []string{"pkg/progress", "pkg/message"} {
		for _, p := range list(t, "-deps", "./"+ground) {
			if !p.Standard && p.ImportPath != module+"/"+ground {
				t.Errorf("%s depends on %s", ground, p.ImportPath)
			}
		}
	}
}

// Who imports pkg/reporter must not inherit an embedded server or a browser.
func TestHeavyModulesAreElsewhere(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for _, heavy := range []string{"go.temporal.io/server", "github.com/temporalio/ui-server", "github.com/chromedp/", "github.com/compose-spec/", "github.com/prometheus/prometheus "} {
		if bytes.Contains(text, []byte(heavy)) {
			t.Errorf("the root go.mod names %s; it belongs to cmd/dev or test", heavy)
		}
	}
}

func TestFiles(t *testing.T) {
	const most = 500
	meaningless := []string{"util", "utils", "common", "types", "helpers", "helper", "misc"}
	files := 0
	err := filepath.WalkDir(root(t), func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); base == ".git" || base == "bin" || base == "node_modules" {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		files++
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if n := bytes.Count(text, []byte("\n")); n > most {
			t.Errorf("%s has %d lines; %d are allowed: part it by concern", name, n, most)
		}
		if p := packageName(text); slices.Contains(meaningless, strings.TrimSuffix(p, "_test")) {
			t.Errorf("%s: package %s says nothing; name it for what it does", name, p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 50 {
		t.Errorf("only %d Go files were found", files)
	}
}

func packageName(text []byte) string {
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		if name, ok := strings.CutPrefix(s.Text(), "package "); ok {
			name, _, _ = strings.Cut(name, " ")
			return name
		}
	}
	return ""
}

// list returns what `go list` says, of the root module as it is by itself.
func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Standard,Imports"}, args...)...)
	cmd.Dir = root(t)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, &stderr)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(fmt.Errorf("read what go list says: %w", err))
		}
		pkgs = append(pkgs, p)
	}
}

// root is the repository's.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
