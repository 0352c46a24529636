package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/rack-gateway/rack-gateway-approvals/bot/browsertest"
)

// TestSetUpOfTheREADME is a newcomer who copies the steps of the README, in their
// order, to a shell beside the simulators, and who does the rest in a browser.
func TestSetUpOfTheREADME(t *testing.T) {
	b := browsertest.Open(t)
	steps := setUpSteps(t)
	v := visit(t, browseOptions{pace: brisk.pace, simulators: true, port: freePorts(t)})
	sh := newShell(t)
	address := freeAddress(t)
	gateway := "http://" + address
	sh.export("RGW_LISTEN=" + address) // the usual port may be taken
	// Step 3 compiles; the programs are this one, under their names.
	if got := steps[3]; !strings.Contains(got, "go build ./cmd/rack-gatewayd\n") || !strings.Contains(got, `export PATH="$PWD:$PATH"`) {
		t.Errorf("step 3: got %q; want that it builds the programs and puts them into PATH", got)
	}
	if key := sh.run(steps[4]); !regexp.MustCompile(`^k\d+:[\w+/=]{44}$`).MatchString(key) {
		t.Errorf("step 4: got %q; want a key", key)
	}
	// What the simulators print takes the place of step 5.
	names := map[string]bool{}
	for line := range strings.Lines(v.said) {
		if kv, ok := strings.CutPrefix(line, "export "); ok {
			name, value, _ := strings.Cut(strings.TrimSpace(kv), "=")
			names[name] = true
			sh.export(name + "=" + strings.Trim(value, "'"))
		}
	}
	for line := range strings.Lines(steps[5]) {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		if optional := name == "RGW_PUBLIC_URL" || strings.HasSuffix(name, "_NOTIFY"); !names[name] && !optional {
			t.Errorf("step 5: the simulators do not print %s", name)
		}
	}
	serve, check, _ := strings.Cut(steps[6], "\x00")
	sh.start(serve, gateway)
	if out, code := sh.try(check); code != 1 || strings.Count(out, "FAULT") != 1 || !strings.Contains(out, "nobody can approve") {
		t.Errorf("step 6: got exit code %d, %s\nwant the one fault that nobody can approve", code, out)
	}
	link := sh.run(steps[7])
	b.Screen(1440, 900, false, "light")
	b.Do(chromedp.Navigate(link))
	b.Press("button")
	b.Await(`document.querySelector('#key') !== null`, "true")
	key := b.Eval(`document.querySelector('#key').textContent`)
	// The phone is on the other page, as it is beside the computer.
	v.do("scan", act{As: "U0ANA", Text: key})
	code := v.until("U0ANA", "a code", func(s state) bool { return len(s.Code) == 6 }).Code
	b.Do(chromedp.SendKeys("#code", code+"\r"))
	b.Await(`document.querySelector('main')?.dataset.page`, "done")

	token := sh.run(steps[8])
	b.Do(chromedp.Navigate(v.url))
	b.Await(`document.querySelector('#context').hidden`, "false")
	b.Do(chromedp.SendKeys("#url", gateway), chromedp.SendKeys("#token", token))
	b.Press("#context button")
	b.Await(`document.querySelector('#guide').textContent`, "The context has the gateway’s address and a token. Choose Alice above and push a commit: nobody may approve their own.")
	b.Press("#people input[value=U0ALICE]")
	b.Await(`document.querySelector('#push').textContent`, "Push a commit as Alice")
	b.Press("#push")
	b.Await(title, "Deploy myapp?")
	if out, code := sh.try(check); code != 0 || !strings.Contains(out, "ok    token for myapp: ") || !strings.Contains(out, "ok    gate of myapp: ") {
		t.Errorf("step 9: got exit code %d of check, %s\nwant no fault", code, out)
	}
	b.Press("#people input[value=U0ANA]")
	b.Await(`document.querySelector('#push').textContent`, "Push a commit as Ana")
	b.Press("#messages .primary")
	b.Await(`document.querySelector('#view-title')?.textContent`, "Approve deploy")
	// A code counts once. The next one comes within 30 seconds.
	v.until("U0ANA", "another code", func(s state) bool { return len(s.Code) == 6 && s.Code != code })
	b.Await(fmt.Sprintf(`document.querySelector('#code').textContent.replace(' ', '') !== %q`, code), "true")
	b.Press("#type")
	b.Press("#view .primary")
	b.Await(title, "Deployed: myapp ✅")
}

// setUpSteps are the blocks of commands of the README's set-up chapter, by the
// number of their step. Several blocks of one step are separated by NUL.
func setUpSteps(t *testing.T) map[int]string {
	t.Helper()
	text, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, chapter, _ := strings.Cut(string(text), "\n## Set-up")
	chapter, _, _ = strings.Cut(chapter, "\n## ")
	steps, step, inside := map[int]string{}, 0, false
	for line := range strings.Lines(chapter) {
		var n int
		if _, err := fmt.Sscanf(line, "%d. **", &n); err == nil {
			step = n
		}
		switch line = strings.TrimPrefix(line, "   "); {
		case line == "```sh\n":
			inside = true
			if steps[step] != "" {
				steps[step] += "\x00"
			}
		case line == "```\n":
			inside = false
		case inside:
			steps[step] += line
		}
	}
	for n := 3; n <= 8; n++ {
		if steps[n] == "" {
			t.Fatalf("step %d of the README has no block of commands", n)
		}
	}
	return steps
}

// shell runs what somebody copies to a terminal.
type shell struct {
	t   *testing.T
	dir string
	env []string
}

// newShell makes a directory in which rack-gatewayd and rack-gateway are this program.
func newShell(t *testing.T) *shell {
	t.Helper()
	dir, bin := t.TempDir(), t.TempDir()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"rack-gatewayd", "rack-gateway"} {
		if err := os.Symlink(program, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	return &shell{t, dir, []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + dir}}
}

func (s *shell) export(kv string) { s.env = append(s.env, kv) }

// command has an input that stays open, as that of a terminal.
func (s *shell) command(ctx context.Context, script string) *exec.Cmd {
	s.t.Helper()
	cmd := exec.CommandContext(ctx, "sh", "-ec", script)
	cmd.Dir, cmd.Env = s.dir, s.env
	if _, err := cmd.StdinPipe(); err != nil {
		s.t.Fatal(err)
	}
	return cmd
}

// try runs a script and returns all that it prints, and its exit code.
func (s *shell) try(script string) (out string, code int) {
	s.t.Helper()
	cmd := s.command(s.t.Context(), script)
	said, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		s.t.Fatalf("%s: %v", script, err)
	}
	return string(said), cmd.ProcessState.ExitCode()
}

// run wants a script to succeed and returns its standard output.
func (s *shell) run(script string) string {
	s.t.Helper()
	var errs strings.Builder
	cmd := s.command(s.t.Context(), script)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("%s: %v\n%s%s", script, err, out, &errs)
	}
	return strings.TrimSpace(string(out))
}

// start runs the daemon until the test ends, and waits until it serves.
func (s *shell) start(script, url string) {
	s.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Minute)
	cmd := s.command(ctx, "exec "+script) // so that a signal reaches the daemon
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	log, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		stop()
		s.t.Fatal(err)
	}
	said, ended := bufio.NewScanner(log), make(chan struct{})
	s.t.Cleanup(func() {
		stop()
		<-ended
		_ = cmd.Wait() // how it ends is for other tests
	})
	serving := make(chan bool, 1)
	go func() {
		defer close(ended)
		for said.Scan() {
			if strings.Contains(said.Text(), "connected to Slack") {
				select {
				case serving <- true:
				default:
				}
			}
		}
	}()
	select {
	case <-serving:
	case <-ended:
		s.t.Fatalf("%s ended at once", script)
	}
	answer, err := http.Get(url + "/readyz")
	if err != nil {
		s.t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		s.t.Errorf("GET /readyz: got %s; want 200", answer.Status)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
