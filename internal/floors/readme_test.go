package floors

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// readmeImports are the packages that the README's Go may name.
var readmeImports = map[string]string{
	"context":    "context",
	"client":     "go.temporal.io/sdk/client",
	"worker":     "go.temporal.io/sdk/worker",
	"redisstore": module + "/pkg/redisstore",
	"reporter":   module + "/pkg/reporter",
}

// readmeGiven is what its reader has.
const readmeGiven = "type Item struct{ Name string }\n"

// wrap makes a file of a block: what is no declaration goes into a function,
// with what it declares used.
func wrap(t *testing.T, block string) string {
	t.Helper()
	body := block
	if !regexp.MustCompile(`(?m)^(func|type|var|const) `).MatchString(block) {
		body = "func snippet(ctx context.Context) {\n" + block + "\n}\n"
	}
	file, err := parser.ParseFile(token.NewFileSet(), "", "package snippet\n"+body, 0)
	if err != nil {
		t.Fatalf("%v, in\n%s", err, block)
	}
	var imports []string
	var declared strings.Builder
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && readmeImports[x.Name] != "" && !slices.Contains(imports, x.Name) {
				imports = append(imports, x.Name)
			}
		case *ast.AssignStmt:
			for _, left := range n.Lhs {
				if id, ok := left.(*ast.Ident); ok && n.Tok == token.DEFINE && body != block {
					fmt.Fprintf(&declared, "_ = %s\n", id.Name)
				}
			}
		}
		return true
	})
	if body != block {
		body = strings.TrimSuffix(body, "}\n") + declared.String() + "}\n"
	}
	var b strings.Builder
	b.WriteString("package snippet\n")
	for _, name := range imports {
		fmt.Fprintf(&b, "import %s %q\n", name, readmeImports[name])
	}
	b.WriteString(readmeGiven + body)
	return b.String()
}

// goBlocks returns the blocks of Go in a page of Markdown.
func goBlocks(text string) (blocks []string) {
	for _, match := range regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, match[1])
	}
	return blocks
}

// build compiles the files, each as a package of its own inside the module
// but not on the disk.
func build(t *testing.T, files []string) error {
	t.Helper()
	overlay, args := map[string]string{}, []string{"build", "-overlay", filepath.Join(t.TempDir(), "overlay.json")}
	for i, text := range files {
		name := filepath.Join(t.TempDir(), "snippet.go")
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		dir := fmt.Sprintf("internal/snippet%d", i)
		overlay[filepath.Join(root(t), dir, "snippet.go")] = name
		args = append(args, "./"+dir)
	}
	text, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(args[2], text, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root(t)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// Who pastes the README's Go has a program that compiles.
func TestReadmeCompiles(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := goBlocks(string(text))
	if len(blocks) < 2 {
		t.Fatalf("only %d blocks of Go were found", len(blocks))
	}
	var files []string
	for _, block := range blocks {
		files = append(files, wrap(t, block))
	}
	if err := build(t, files); err != nil {
		t.Errorf("README.md: %v\nin\n%s", err, strings.Join(files, "\n"))
	}
	wrong := strings.Replace(files[1], "p.Log(", "p.NoSuchCall(", 1)
	if err := build(t, []string{wrong}); err == nil || !strings.Contains(err.Error(), "NoSuchCall") {
		t.Errorf("a call that does not exist is not found: %v", err)
	}
}

// The README tells a newcomer, in this order: what it is, the two commands,
// what they will see, ten lines of Go, curl, redis-cli, what is promised and
// what is not, and how it works.
func TestReadmeOrder(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	rest := string(text)
	for _, next := range []struct{ what, pattern string }{
		{"the name", `\A# Runcast\n`},
		{"one sentence", `\A\n[A-Z][^\n.]*\.\n`},
		{"the two commands", "\\A\n```sh\nmake dev [^\n]*\nmake test [^\n]*\n```\n"},
		{"what you then see", `(?m)\A\n## What you then see$`},
		{"ten lines of Go", `(?m)^## Ten lines of Go$`},
		{"a block of Go", "(?m)^```go$"},
		{"curl", "(?m)^## `curl`$"},
		{"a line of curl", `(?m)^curl `},
		{"redis-cli", "(?m)^## `redis-cli`$"},
		{"a line of redis-cli", `(?m)^redis-cli `},
		{"promises", `(?m)^## Promises$`},
		{"non-promises", `(?m)^Not promised: `},
		{"how it works", `(?m)^## How it works$`},
		{"the diagram", `(?m)^ +browser ◀── `},
	} {
		at := regexp.MustCompile(next.pattern).FindStringIndex(rest)
		if at == nil {
			t.Fatalf("%s does not come next, in\n%.300s", next.what, rest)
		}
		if headings := regexp.MustCompile(`(?m)^## `).FindAllString(rest[:at[0]], -1); len(headings) > 0 {
			t.Errorf("something else has a heading before %s", next.what)
		}
		rest = rest[at[1]:]
	}
}
