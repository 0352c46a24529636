package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

const packedOrb = "../../../circleci/orb.yml"

// orb is the packed orb, as far as the tests read it.
type orb struct {
	Description string             `json:"description"`
	Commands    map[string]element `json:"commands"`
	Executors   map[string]element `json:"executors"`
	Jobs        map[string]element `json:"jobs"`
	Examples    map[string]struct {
		Description string         `json:"description"`
		Usage       map[string]any `json:"usage"`
	} `json:"examples"`
}

// element is a command, an executor or a job.
type element struct {
	Description string               `json:"description"`
	Parameters  map[string]parameter `json:"parameters"`
	Executor    map[string]any       `json:"executor"`
	Environment map[string]any       `json:"environment"`
	Steps       []any                `json:"steps"`
}

type parameter struct {
	Type        string `json:"type"`
	Description string `json:"description"`
	Default     any    `json:"default"` // nil = the parameter is required
}

// step is one step of a job after everything was filled in.
type step struct {
	Name        string
	Command     string
	Environment map[string]any
	Background  bool
	When        string
	checkout    bool
}

func readOrb(t *testing.T) *orb {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash(packedOrb))
	if err != nil {
		t.Fatal(err)
	}
	var o orb
	into(t, readYAML(t, text), &o)
	return &o
}

// readYAML reads YAML as JSON knows it.
func readYAML(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func into(t *testing.T, from, to any) {
	t.Helper()
	text, err := json.Marshal(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, to); err != nil {
		t.Fatal(err)
	}
}

// job compiles a job with parameters, as CircleCI does.
func (o *orb) job(t *testing.T, name string, given map[string]any) []step {
	t.Helper()
	return o.compile(t, o.Jobs[name], name, given)
}

// command compiles a command with parameters.
func (o *orb) command(t *testing.T, name string, given map[string]any) []step {
	t.Helper()
	return o.compile(t, o.Commands[name], name, given)
}

func (o *orb) compile(t *testing.T, e element, name string, given map[string]any) []step {
	t.Helper()
	if e.Steps == nil {
		t.Fatalf("the orb has no %s", name)
	}
	values := map[string]any{}
	for name, p := range e.Parameters {
		if values[name] = p.Default; given[name] == nil && p.Default == nil {
			t.Fatalf("a parameter is missing: %s", name)
		}
	}
	for k, v := range given {
		if _, declared := values[k]; !declared {
			t.Fatalf("%s has no parameter %s", name, k)
		}
		values[k] = v
	}
	return o.steps(t, fill(e.Steps, values).([]any))
}

func (o *orb) steps(t *testing.T, list []any) (steps []step) {
	t.Helper()
	for _, s := range list {
		m, ok := s.(map[string]any)
		if !ok {
			m = map[string]any{s.(string): nil}
		}
		for kind, v := range m { // there is one
			given, _ := v.(map[string]any)
			switch kind {
			case "checkout":
				steps = append(steps, step{Name: "Checkout", checkout: true})
			case "run":
				var run step
				if line, short := v.(string); short {
					run = step{Name: line, Command: line}
				} else {
					into(t, given, &run)
				}
				steps = append(steps, run)
			case "when":
				if given["condition"] == true {
					steps = append(steps, o.steps(t, given["steps"].([]any))...)
				}
			case "steps":
				steps = append(steps, o.steps(t, v.([]any))...)
			default:
				steps = append(steps, o.command(t, kind, given)...)
			}
		}
	}
	return steps
}

var parameterUse = regexp.MustCompile(`<<\s*parameters\.(\w+)\s*>>`)

// fill puts values in place of << parameters.name >>.
func fill(in any, values map[string]any) any {
	switch in := in.(type) {
	case string:
		if m := parameterUse.FindStringSubmatch(in); m != nil && m[0] == in {
			return values[m[1]]
		}
		return parameterUse.ReplaceAllStringFunc(in, func(use string) string {
			return fmt.Sprint(values[parameterUse.FindStringSubmatch(use)[1]])
		})
	case []any:
		out := make([]any, len(in))
		for i, v := range in {
			out[i] = fill(v, values)
		}
		return out
	case map[string]any:
		out := maps.Clone(in)
		for k, v := range in {
			out[k] = fill(v, values)
		}
		return out
	}
	return in
}

// environ is a step's environment. A number has no point there, and an empty
// value is there all the same.
func (s step) environ() []string { return environ(s.Environment) }

func environ(values map[string]any) []string {
	var env []string
	for name, value := range values {
		env = append(env, strings.TrimSpace(fmt.Sprintf("%s=%v", name, value)))
	}
	return env
}
