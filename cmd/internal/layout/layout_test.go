// Package layout_test keeps the dependencies between the packages as they are
// meant: one direction, a core without a network.
package layout_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/rack-gateway/rack-gateway-approvals/"

type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Deps       []string
}

// list reads the packages below the module, without their tests.
func list(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Standard,Imports,Deps", module+"...").Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			t.Fatalf("go list: %s", failed.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	d := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("decode go list: %v", err)
		}
		all = append(all, p)
	}
}

func TestImports(t *testing.T) {
	t.Parallel()
	standard := func(path string) bool { return !strings.Contains(strings.Split(path, "/")[0], ".") }
	ours := func(path string) (string, bool) { return strings.CutPrefix(path, module) }
	rules := []struct {
		name    string
		applies func(p string) bool
		banned  func(imported string) bool
		why     string
	}{
		{
			"core", func(p string) bool { return p == "approvals" || strings.HasPrefix(p, "approvals/") },
			func(i string) bool {
				if rest, is := ours(i); is {
					return !strings.HasPrefix(rest, "approvals")
				}
				banned := []string{"net", "net/http", "database/sql", "os/exec"}
				libraries := []string{"github.com/go-json-experiment/json", "github.com/pquerna/otp", "golang.org/x/mod/"}
				library := slices.ContainsFunc(libraries, func(prefix string) bool { return strings.HasPrefix(i, prefix) })
				return slices.Contains(banned, i) || !standard(i) && !library
			},
			"the rules know no Slack, SQL or HTTP",
		},
		{
			"circleci", func(p string) bool { return p == "circleci" },
			func(i string) bool {
				return !standard(i) && i != module+"approvals" && i != module+"approvals/plain" && i != "go.yaml.in/yaml/v3"
			},
			"circleci imports approvals and a reader of YAML",
		},
		{
			"github", func(p string) bool { return p == "circleci/github" },
			func(i string) bool { rest, is := ours(i); return is && !strings.HasPrefix(rest, "approvals") },
			"github calls no other adapter",
		},
		{
			"adapters", func(p string) bool { return p == "bot" || p == "bot/webhook" || p == "bot/enroll" },
			func(i string) bool {
				rest, is := ours(i)
				return is && !strings.HasPrefix(rest, "approvals")
			},
			"no adapter calls another adapter",
		},
		{
			"store", func(p string) bool { return p == "store" },
			func(i string) bool {
				rest, is := ours(i)
				return is && !strings.HasPrefix(rest, "approvals") && !strings.HasPrefix(rest, "store/")
			},
			"the store calls no other adapter",
		},
		{
			"engines", func(p string) bool { return strings.HasPrefix(p, "store/") && p != "store/storetest" },
			func(i string) bool {
				rest, is := ours(i)
				return is && rest != "approvals" && rest != "store/engine"
			},
			"an engine knows nothing of the store or another engine",
		},
		{
			"client", func(p string) bool { return p == "cmd/rack-gateway" || p == "cmd/internal/gateway" },
			func(i string) bool {
				rest, is := ours(i)
				return is && rest != "bot/webhook" && rest != "cmd/internal/gateway" && rest != "cmd/internal/cli" && !strings.HasPrefix(rest, "approvals")
			},
			"the client speaks HTTP alone",
		},
		{
			"command lines", func(p string) bool { return p == "cmd/internal/cli" },
			func(i string) bool {
				rest, is := ours(i)
				return is && rest != "approvals/audit/sheet" && rest != "approvals/plain"
			},
			"what both programs share knows nothing about approvals",
		},
		{
			"templates", func(string) bool { return true },
			func(i string) bool { return i == "text/template" || i == "html/template" },
			"a template calls methods by their names, so the linker keeps all methods of all types",
		},
		{
			"simulators", func(p string) bool {
				return !strings.HasPrefix(p, "cmd/demo") && p != "cmd/internal/stage" && p != "cmd/internal/proof" && p != "cmd/internal/story" && !strings.HasSuffix(p, "test")
			},
			func(i string) bool {
				rest, is := ours(i)
				return is && strings.HasSuffix(rest, "test")
			},
			"only the demo, its stage and the stories of tests use simulators outside of tests",
		},
	}
	for _, p := range list(t) {
		path, _ := ours(p.ImportPath)
		for _, rule := range rules {
			if !rule.applies(path) {
				continue
			}
			for _, i := range p.Imports {
				if rule.banned(i) {
					t.Errorf("%s imports %s: %s (rule %q)", path, i, rule.why, rule.name)
				}
			}
		}
	}
}

// The client program is installed in CI images: it must stay free of cgo, the
// database and Slack.
func TestClientStaysSmall(t *testing.T) {
	t.Parallel()
	for _, p := range list(t) {
		if p.ImportPath != module+"cmd/rack-gateway" {
			continue
		}
		for _, d := range p.Deps {
			if strings.Contains(d, "sqlite") || strings.Contains(d, "slack-go") || d == "database/sql" {
				t.Errorf("the client depends on %s", d)
			}
		}
		return
	}
	t.Error("cmd/rack-gateway is not there")
}

// Images and small machines have no zone data, which freezes need.
func TestDaemonHasZones(t *testing.T) {
	t.Parallel()
	for _, p := range list(t) {
		if p.ImportPath == module+"cmd/rack-gatewayd" && !slices.Contains(p.Deps, "time/tzdata") {
			t.Error("the daemon does not bring its own zone data")
		}
	}
}

// A newcomer sees at the top what the product consists of and nothing else; files
// for machines begin with a dot.
func TestTopLevel(t *testing.T) {
	known := strings.Fields("approvals bot circleci cmd store go.mod go.sum Dockerfile manifest.yml README.md LICENSE")
	entries, err := os.ReadDir("../../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(known, e.Name()) {
			t.Errorf("%s: everything finds its place below %s", e.Name(), known)
		}
	}
}
