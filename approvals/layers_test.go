package approvals_test

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// layers are the files of this package from the bottom up. A file may refer to
// its own layer and those below it.
var layers = [][]string{
	{ // types
		"doc", "store", "ci", "work", "event", "status", "request", "person", "token", "facts", "error", "refusal", "text",
		"policy", "codehost", "settings", "setting_keys", "setting_globs", "setting_text", "setting_changes", "freeze",
	},
	{ // rules, without a store
		"apply", "look", "pace", "step", "step_gate", "step_pending", "step_approved", "step_released", "step_closed",
	},
	{"change", "kept", "sealed", "journal", "proof", "log", "rebuild"}, // the log and the rows that cache it
	{"judge"}, // rules that read the store
	// use cases
	{
		"service", "worker", "create", "commits", "close", "decide", "click", "verify", "follow", "follow_look", "people", "admin", "enrol", "token_expiry",
		"recover", "read", "show", "explain",
	},
}

// exported opens what the compiler says of the packages that this one imports. To
// type-check their sources would take a hundred times as long.
func exported(t *testing.T) importer.Lookup {
	cmd := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", ".")
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		files[path] = file
	}
	return func(path string) (io.ReadCloser, error) { return os.Open(files[path]) }
}

// TestLayers holds the core to one direction: types, rules, use cases.
func TestLayers(t *testing.T) {
	t.Parallel()
	rank := map[string]int{}
	for i, files := range layers {
		for _, f := range files {
			rank[f+".go"] = i
		}
	}
	fset := token.NewFileSet()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		if _, ok := rank[name]; !ok {
			t.Errorf("%s belongs to no layer: add it to the list", name)
		}
		f, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	conf := types.Config{Importer: importer.ForCompiler(fset, "gc", exported(t))}
	pkg, err := conf.Check("github.com/rack-gateway/rack-gateway-approvals/approvals", fset, files, info)
	if err != nil {
		t.Fatal(err)
	}
	file := func(p token.Pos) string { return filepath.Base(fset.Position(p).Filename) }
	told := map[string]bool{}
	for use, object := range info.Uses {
		if object.Pkg() != pkg || object.Pos() == token.NoPos {
			continue
		}
		from, to := file(use.Pos()), file(object.Pos())
		if say := from + " refers up to " + object.Name() + " of " + to; rank[from] < rank[to] && !told[say] {
			told[say] = true
			t.Error(say)
		}
	}
}
