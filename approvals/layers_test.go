package approvals_test

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
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
		"apply", "look", "pace", "step", "step_gate", "step_silence", "step_pending", "step_approved", "step_released", "step_closed", "step_rerun",
	},
	{"change", "journal", "proof", "log", "rebuild"}, // the log and the rows that cache it
	{"judge"}, // rules that read the store
	// use cases
	{
		"service", "worker", "create", "commits", "close", "decide", "verify", "follow", "people", "admin", "enrol", "token_expiry",
		"recover", "read", "show", "explain",
	},
}

// TestLayers holds the core to one direction: types, rules, use cases.
func TestLayers(t *testing.T) {
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
	conf := types.Config{Importer: importer.ForCompiler(fset, "source", nil)}
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
