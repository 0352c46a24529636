package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gateway"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gatewayd"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/stage"
)

const repository = "../../.."

// docPage is a page of documentation with its blocks of commands.
type docPage struct {
	name, text string
	blocks     []string
}

var shellBlock = regexp.MustCompile("(?ms)^( *)```(?:sh|bash)\n(.*?)^ *```$")

func docPages(t *testing.T) (pages []docPage) {
	t.Helper()
	err := filepath.WalkDir(repository, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == ".git" {
			return fs.SkipDir
		}
		if err != nil || filepath.Ext(path) != ".md" {
			return err
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(repository, path)
		p := docPage{name: name, text: string(text)}
		for _, m := range shellBlock.FindAllStringSubmatch(p.text, -1) {
			p.blocks = append(p.blocks, strings.TrimPrefix(strings.ReplaceAll(m[2], "\n"+m[1], "\n"), m[1]))
		}
		pages = append(pages, p)
		return err
	})
	if err != nil || len(pages) < 8 {
		t.Fatalf("got %d pages, %v; want all of the repository's", len(pages), err)
	}
	return pages
}

// notHere says of commands, by how they begin, why the test below does not run them.
var notHere = []struct{ begins, why string }{
	{"go run ./cmd/demo", "TestAuto and TestPage play it"},
	{"go test ./...", "this is one of those tests"},
	{"go build ./cmd/rack-gatewayd", "TestSetUpOfTheREADME has the programs already"},
	{"CGO_ENABLED=0 go build ./cmd/rack-gateway", "TestSetUpOfTheREADME has the programs already"},
	{"export ", "it sets a variable of a real account; TestSetUpOfTheREADME has those of the simulators"},
	{"rack-gatewayd keygen # prints", "TestSetUpOfTheREADME runs it"},
	{"rack-gatewayd serve", "TestSetUpOfTheREADME runs it"},
	{"rack-gatewayd check", "TestSetUpOfTheREADME runs it"},
	{"rack-gatewayd user ", "TestSetUpOfTheREADME runs it"},
	{"rack-gatewayd token create", "TestSetUpOfTheREADME runs it"},
	{"{ printf '\\060", "TestSignatureCheckOfTheREADME runs it"},
	{"head -n 3 log.checkpoint", "TestSignatureCheckOfTheREADME runs it"},
	{"tail -n 1 log.checkpoint", "TestSignatureCheckOfTheREADME runs it"},
	{"openssl ", "TestSignatureCheckOfTheREADME runs it"},
	{"circleci policy ", "it needs an organisation with the Scale plan"},
	{"createdb ", "it needs a PostgreSQL server, and the tests of the engine have one of their own"},
	{"kubectl ", "it needs a cluster"},
	{"docker ", "it needs Docker; the images are built by .ci/images.sh"},
	{"cp ../rack-gateway.env.example", "it only copies; TestDeployFilesAreAConfiguration starts with that file"},
	{"sudo ", "it changes the machine"},
}

// TestCommandsOfTheDocumentation runs what the pages of documentation say to run,
// beside a daemon with the simulators, or has a reason why not.
func TestCommandsOfTheDocumentation(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s, err := stage.New(t.TempDir(), stage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := t.Context()
	if err := cmp.Or(s.Start(ctx), s.People(ctx)); err != nil {
		t.Fatal(err)
	}
	workflow := s.Pipeline(stage.Number)
	sh := newShell(t)
	sh.env = append(sh.env, s.Environ()...)
	sh.env = append(sh.env, "RACK_GATEWAY_URL="+s.URL, "RACK_GATEWAY_API_TOKEN="+s.Token)
	if err := os.CopyFS(filepath.Join(sh.dir, "circleci"), os.DirFS(filepath.Join(repository, "circleci"))); err != nil {
		t.Fatal(err)
	}
	ran, excused := 0, map[string]bool{}
	for _, p := range docPages(t) {
		for _, block := range p.blocks {
			var script strings.Builder
			for line := range strings.Lines(strings.ReplaceAll(block, "\\\n", "")) {
				if why := excuse(line, excused); why == "" {
					script.WriteString(line)
				}
			}
			if strings.TrimSpace(script.String()) == "" {
				continue
			}
			ran++
			// What a reader fills in: the id of a workflow, and what is optional.
			text := regexp.MustCompile(` \[--since [^]]*\]`).ReplaceAllString(strings.ReplaceAll(script.String(), `"workflow_id":"…"`, `"workflow_id":"`+workflow+`"`), "")
			if out, code := sh.try(text); code != 0 {
				t.Errorf("%s: got exit code %d of\n%s%s", p.name, code, text, out)
			}
		}
	}
	if ran < 4 {
		t.Errorf("got %d blocks that were run; want those of the log, the secrets, the orb and the request", ran)
	}
	for _, n := range notHere {
		if !excused[n.begins] {
			t.Errorf("no page says %q any more", n.begins)
		}
	}
	if config, err := os.ReadFile(filepath.Join(sh.dir, "config.yml")); err != nil || !bytes.Contains(config, []byte("\n    jobs:\n")) {
		t.Errorf("the orb inline: got %v, %.200s", err, config)
	}
}

// excuse is why a line is not run, "" when it is.
func excuse(line string, used map[string]bool) string {
	line = strings.Join(strings.Fields(line), " ")
	for _, n := range notHere {
		if strings.HasPrefix(line, n.begins) {
			used[n.begins] = true
			return n.why
		}
	}
	return ""
}

var (
	ourCommand = regexp.MustCompile("(?:^|[\\s`/(])(rack-gatewayd?) ([a-z][^`\n|;>&)]*)")
	namespace  = regexp.MustCompile(`kubectl -n rack-gateway `)
	ourFlag    = regexp.MustCompile(`(?:^|[\s\[(|\\])(--?[a-z][a-z-]*)`)
	flagList   = regexp.MustCompile("(?m)^\\| `(?:serve|check|keygen|explain|settings|token|user|audit|backup|migrate|copy|rebuild|recover|deploy|deploy-approval|access-review|keys)[ `].*")
)

// tables are the pages whose tables of commands leave the program out.
var tables = map[string]string{
	"cmd/rack-gateway/README.md": "rack-gateway", "cmd/rack-gatewayd/README.md": "rack-gatewayd", "approvals/ledger/README.md": "rack-gatewayd",
}

// Every command of our two programs that a page names exists, with each of the
// flags that the page gives it.
func TestFlagsOfTheDocumentation(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, p := range docPages(t) {
		text := namespace.ReplaceAllString(strings.ReplaceAll(p.text, "\\\n", " "), "kubectl ")
		commands := ourCommand.FindAllStringSubmatch(text, -1)
		program := tables[p.name]
		for _, row := range flagList.FindAllString(text, -1) {
			if program == "" {
				continue
			}
			cell, _, _ := strings.Cut(strings.ReplaceAll(row[2:], `\|`, "/"), " |")
			for i, code := range strings.Split(cell, "`") {
				if i%2 == 1 {
					commands = append(commands, []string{code, program, code})
				}
			}
		}
		for _, m := range commands {
			seen++
			program, line := m[1], m[2]
			if line, _, _ = strings.Cut(line, " -- "); program == "rack-gateway" {
				line, _, _ = strings.Cut(line, " # ")
			}
			if problem := known(t.Context(), program, line); problem != "" {
				t.Errorf("%s: %s %s: %s", p.name, program, strings.TrimSpace(line), problem)
			}
		}
	}
	if seen < 60 {
		t.Errorf("got %d commands; want those of all pages", seen)
	}
}

// known asks the program's own help; "" means that it knows command and flags.
func known(ctx context.Context, program, line string) string {
	var path []string
	help := ""
	for word := range strings.FieldsSeq(line) {
		word, _, _ = strings.Cut(word, "/") // remove/unlock/reset take the same flags
		if !regexp.MustCompile(`^[a-z][a-z-]*$`).MatchString(word) {
			break
		}
		text, code := helpOf(ctx, program, append(slices.Clone(path), word)...)
		if code != 0 || !strings.Contains(text, program+" "+strings.Join(append(path, word), " ")) {
			break
		}
		path, help = append(path, word), text
	}
	if len(path) == 0 {
		return "there is no such command"
	}
	for _, m := range ourFlag.FindAllStringSubmatch(line, -1) {
		if !regexp.MustCompile(`(?m)^ +(-\w, )?` + m[1] + `\b|^ +` + m[1] + `, `).MatchString(help) {
			return fmt.Sprintf("%s has no flag %s", strings.Join(path, " "), m[1])
		}
	}
	return ""
}

func helpOf(ctx context.Context, program string, path ...string) (string, int) {
	var out, errs bytes.Buffer
	run := gatewayd.Run
	if program == "rack-gateway" {
		run = gateway.Run
	}
	code := run(ctx, append(path, "--help"), nil, strings.NewReader(""), &out, &errs)
	return out.String(), code
}
