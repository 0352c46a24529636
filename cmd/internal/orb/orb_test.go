package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"mvdan.cc/sh/v3/syntax"
)

const sources = "../../../circleci/orb/src"

func TestThePackedOrbIsTheNewest(t *testing.T) {
	want, err := pack(os.DirFS(sources))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(packedOrb)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("circleci/orb.yml is old: run go run ./cmd/internal/orb")
	}
}

func TestPackRefuses(t *testing.T) {
	for name, script := range map[string]string{
		"contains <<": "#!/bin/sh\ncat <<EOF\nEOF\n",
		"has no #!":   "echo\n",
		"no line end": "#!/bin/sh\necho",
		"not exist":   "",
	} {
		src := fstest.MapFS{
			"@orb.yml":       {Data: []byte("version: 2.1\n")},
			"commands/c.yml": {Data: []byte("steps:\n  - run:\n      command: << include(scripts/s.sh) >>\n")},
		}
		if script != "" {
			src["scripts/s.sh"] = &fstest.MapFile{Data: []byte(script)}
		}
		if _, err := pack(src); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%q: got %v; want an error that says %q", script, err, name)
		}
	}
}

// What was packed says the same as the sources do.
func TestPackingKeepsTheMeaning(t *testing.T) {
	o := readYAML(t, must(os.ReadFile(packedOrb))).(map[string]any)
	files := must(filepath.Glob(sources + "/*/*.yml"))
	for _, file := range files {
		section, name := filepath.Base(filepath.Dir(file)), strings.TrimSuffix(filepath.Base(file), ".yml")
		packed := o[section].(map[string]any)[name]
		source := readYAML(t, must(os.ReadFile(file)))
		if included := regexp.MustCompile(`^<< include\((.*)\) >>$`); !sameAs(source, packed, func(s string) string {
			if m := included.FindStringSubmatch(s); m != nil {
				return string(must(os.ReadFile(filepath.Join(sources, m[1]))))
			}
			return s
		}) {
			t.Errorf("%s/%s: got %v; want %v", section, name, packed, source)
		}
	}
	if len(files) < 10 {
		t.Errorf("got %d sources; want at least 10", len(files))
	}
}

func sameAs(source, packed any, text func(string) string) bool {
	switch s := source.(type) {
	case string:
		return packed == text(s)
	case []any:
		p, ok := packed.([]any)
		return ok && slices.EqualFunc(s, p, func(a, b any) bool { return sameAs(a, b, text) })
	case map[string]any:
		p, ok := packed.(map[string]any)
		if !ok || len(p) != len(s) {
			return false
		}
		for k, v := range s {
			if !sameAs(v, p[k], text) {
				return false
			}
		}
		return true
	}
	return source == packed
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// samples are all configurations that we show: the orb, its examples, and the
// blocks of all pages. Steps alone are those of a job.
func samples(t *testing.T) map[string]any {
	t.Helper()
	all := map[string]any{
		"orb.yml": readYAML(t, must(os.ReadFile(packedOrb))), "inline": inline(t), "original": readYAML(t, must(os.ReadFile("testdata/original.yml"))),
	}
	for name, example := range readOrb(t).Examples {
		all["example "+name] = example.Usage
	}
	err := filepath.WalkDir("../../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".md" {
			return err
		}
		for i, m := range yamlBlock.FindAllStringSubmatch(string(must(os.ReadFile(path))), -1) {
			block, _ := readYAML(t, []byte(m[1])).(map[string]any)
			if steps := block["steps"]; steps != nil {
				block = map[string]any{"version": 2.1, "jobs": map[string]any{"x": map[string]any{"docker": []any{map[string]any{"image": "x"}}, "steps": steps}}}
			}
			name := fmt.Sprintf("%s, block %d", path, i+1)
			switch {
			case block["version"] != nil:
				all[name] = block
			case block["apiVersion"] == nil && block["scrape_configs"] == nil:
				t.Errorf("%s is not CircleCI's, and not of Kubernetes or Prometheus, which .ci/run checks", name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var yamlBlock = regexp.MustCompile("(?ms)^```ya?ml\n(.*?)^```$")

// The official schema of configurations and orbs is not part of the repository;
// where it lies beside it, every sample is held against it.
func TestSamplesFollowTheOfficialSchema(t *testing.T) {
	file := filepath.Join("..", "..", "..", "..", "shared", "data", "circleci-config-schema.json")
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		t.Skip("the official schema is not here: nothing to compare with")
	}
	schema, err := jsonschema.NewCompiler().Compile(file)
	if err != nil {
		t.Fatal(err)
	}
	all := samples(t)
	if len(all) < 10 {
		t.Errorf("got %d samples; want the orb, an inline one, its examples and those of the README files", len(all))
	}
	for name, sample := range all {
		if err := schema.Validate(sample); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	wrong := map[string]any{"version": 2.1, "jobs": map[string]any{"x": map[string]any{"docker": "alpine"}}}
	if schema.Validate(wrong) == nil {
		t.Error("the schema accepts what is wrong: the comparison above says nothing")
	}
}

// The schema does not see these faults.
func TestReferencesInTheOrb(t *testing.T) {
	o := readOrb(t)
	for section, elements := range map[string]map[string]element{"command": o.Commands, "job": o.Jobs, "executor": o.Executors} {
		for name, e := range elements {
			if e.Description == "" {
				t.Errorf("%s %s has no description", section, name)
			}
			for p, declared := range e.Parameters {
				if declared.Description == "" || declared.Type == "" {
					t.Errorf("parameter %s of %s %s has no description or no type", p, section, name)
				}
			}
		}
	}
	for section, elements := range map[string]map[string]element{"commands": o.Commands, "jobs": o.Jobs} {
		for name, e := range elements {
			text := string(must(os.ReadFile(filepath.Join(sources, section, name+".yml"))))
			used := map[string]bool{}
			for _, m := range parameterUse.FindAllStringSubmatch(text, -1) {
				used[m[1]] = true
				if _, ok := e.Parameters[m[1]]; !ok {
					t.Errorf("%s/%s uses the parameter %s, which it does not declare", section, name, m[1])
				}
			}
			for p := range e.Parameters {
				if !used[p] {
					t.Errorf("%s/%s declares the parameter %s and does not use it", section, name, p)
				}
			}
			given := map[string]any{}
			for p, declared := range e.Parameters {
				if declared.Default == nil {
					given[p] = "x"
				}
			}
			o.compile(t, e, name, given) // fails on unknown commands and parameters
			if section == "jobs" {
				if _, ok := o.Executors[e.Executor["name"].(string)]; !ok {
					t.Errorf("%s/%s runs on an executor that is not there", section, name)
				}
			}
		}
	}
}

var scriptUse = regexp.MustCompile(`\bPARAM_[A-Z_]+\b`)

// A script gets what it reads, reads what it gets, and is plain POSIX shell.
func TestScripts(t *testing.T) {
	given := map[string][]string{} // by script
	for _, file := range must(filepath.Glob(sources + "/commands/*.yml")) {
		for _, s := range readYAML(t, must(os.ReadFile(file))).(map[string]any)["steps"].([]any) {
			run := s.(map[string]any)["run"].(map[string]any)
			script := strings.TrimSuffix(strings.TrimPrefix(run["command"].(string), "<< include("), ") >>")
			environment, _ := run["environment"].(map[string]any)
			names := []string{}
			for name := range environment {
				names = append(names, name)
			}
			slices.Sort(names)
			given[filepath.Join(sources, script)] = names
		}
	}
	scripts := must(filepath.Glob(sources + "/scripts/*.sh"))
	for _, file := range scripts {
		text := must(os.ReadFile(file))
		if _, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(bytes.NewReader(text), file); err != nil {
			t.Errorf("%s is no POSIX shell: %v", file, err)
		}
		uses := scriptUse.FindAllString(string(text), -1)
		slices.Sort(uses)
		if uses = slices.Compact(uses); !slices.Equal(uses, given[file]) {
			t.Errorf("%s reads %v and gets %v", file, uses, given[file])
		}
	}
	if len(scripts) != len(given) {
		t.Errorf("got %d scripts, of which %d are included", len(scripts), len(given))
	}
	if _, err := exec.LookPath("shellcheck"); err != nil {
		t.Log("no shellcheck here: the scripts are only parsed")
		return
	}
	if out, err := exec.CommandContext(t.Context(), "shellcheck", append([]string{"-s", "sh"}, scripts...)...).CombinedOutput(); err != nil {
		t.Errorf("shellcheck: %v\n%s", err, out)
	}
}

// inlineOrb is what the README says to put the orb inline.
func inlineOrb(t *testing.T) string {
	t.Helper()
	text := string(must(os.ReadFile("../../../circleci/orb/README.md")))
	_, text, _ = strings.Cut(text, "```sh\n")
	line, _, found := strings.Cut(text, " >config.yml\n```")
	if !found {
		t.Fatal("the README does not say how to put the orb inline")
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", line)
	cmd.Dir = "../../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// inline is a configuration with the orb inline.
func inline(t *testing.T) any {
	t.Helper()
	config := readYAML(t, []byte(inlineOrb(t)+"workflows:\n  deploy:\n    jobs:\n      - rack-gateway/request: {app: myapp, image: x}\n"))
	var inlined struct {
		Orbs map[string]orb `json:"orbs"`
	}
	into(t, config, &inlined)
	if got, want := inlined.Orbs["rack-gateway"], readOrb(t); !reflect.DeepEqual(got.Jobs, want.Jobs) || !reflect.DeepEqual(got.Commands, want.Commands) ||
		!reflect.DeepEqual(got.Executors, want.Executors) || got.Examples != nil {
		t.Error("the orb inline is not the packed one")
	}
	return config
}
