package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gateway"
)

// TestMain lets this program also be what a job finds on its PATH: the client,
// CircleCI's own program, and where that is enough, Tailscale's.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "rack-gateway":
		os.Exit(gateway.Main())
	case "circleci":
		os.Exit(circleci(os.Args[1:]))
	case "tailscaled":
		os.Exit(tailscaled(os.Args[1:]))
	case "tailscale":
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// circleci is the part of CircleCI's program that the scripts call. The token
// that it mints is in the file that TEST_OIDC_TOKEN names, behind its audience.
func circleci(args []string) int {
	switch {
	case len(args) == 3 && args[0] == "env" && args[1] == "subst":
		fmt.Print(os.ExpandEnv(args[2]))
		return 0
	case len(args) == 5 && strings.Join(args[:4], " ") == "run oidc get --claims":
		var claims struct {
			Audience string `json:"aud"`
		}
		if err := json.Unmarshal([]byte(args[4]), &claims); err != nil {
			fmt.Fprintln(os.Stderr, "Error: claims are no JSON")
			return 1
		}
		text, err := os.ReadFile(os.Getenv("TEST_OIDC_TOKEN"))
		if err != nil {
			fmt.Fprintln(os.Stderr, "Error: OIDC tokens are not available")
			return 1
		}
		tokens := map[string]string{}
		if err := json.Unmarshal(text, &tokens); err != nil {
			return 1
		}
		fmt.Print(tokens[claims.Audience])
		return 0
	}
	fmt.Fprintf(os.Stderr, "Error: unknown command %q\n", args)
	return 1
}

// tailscaled is a proxy (RFC 1928, no authentication) into a tailnet with one node,
// whose address is in TEST_TAILNET_NODE.
func tailscaled(args []string) int {
	var address string
	for _, arg := range args {
		if value, ok := strings.CutPrefix(arg, "--socks5-server="); ok {
			address = value
		}
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return 1
		}
		go func() {
			defer conn.Close()
			head := make([]byte, 5)
			_, _ = io.ReadFull(conn, head[:2])
			_, _ = io.CopyN(io.Discard, conn, int64(head[1])) // the methods offered
			_, _ = conn.Write([]byte{5, 0})
			_, _ = io.ReadFull(conn, head) // version, connect, reserved, name, length
			_, _ = io.CopyN(io.Discard, conn, int64(head[4])+2)
			_, _ = conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
			target, err := net.Dial("tcp", os.Getenv("TEST_TAILNET_NODE"))
			if err != nil {
				return
			}
			defer target.Close()
			go func() { _, _ = io.Copy(target, conn) }()
			_, _ = io.Copy(conn, target)
		}()
	}
}

// machine is the container of a job.
type machine struct {
	t      *testing.T
	dir    string // home and work tree
	bin    string // first on the PATH
	path   string // the rest of the PATH
	shell  []string
	env    []string
	prefix []string // runs a command as the user, and in the network, of the job
	source string   // what a checkout brings; "" = nothing
}

// bash and posix are how a step is run where there is a bash, and elsewhere.
var (
	bash  = []string{"bash", "-eo", "pipefail"}
	posix = []string{"sh", "-e"}
)

func newMachine(t *testing.T, shell []string) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir(), bin: t.TempDir(), path: os.Getenv("PATH"), shell: shell}
	for _, name := range []string{"rack-gateway", "circleci"} {
		m.install(name)
	}
	return m
}

// install puts this program on the PATH under a name.
func (m *machine) install(name string) {
	m.t.Helper()
	// A symbolic link would lead through a directory that other users cannot read.
	program, file := must(os.Executable()), filepath.Join(m.bin, name)
	if os.Link(program, file) == nil {
		return
	}
	if err := os.WriteFile(file, must(os.ReadFile(program)), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

// outcome is how a job ended.
type outcome struct {
	failed string // name of the step that failed; "" = none
	code   int
	output string // of all steps
}

// run runs steps as CircleCI does: after a failure only those of when: always,
// and background steps until the end of the job.
func (m *machine) run(ctx context.Context, steps []step) (o outcome) {
	m.t.Helper()
	ctx, end := context.WithCancel(ctx)
	var out output
	var background sync.WaitGroup
	defer background.Wait()
	defer end()
	bashEnv := filepath.Join(m.dir, ".bash_env")
	if err := os.WriteFile(bashEnv, nil, 0o666); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Chmod(bashEnv, 0o666); err != nil { // whatever the umask is
		m.t.Fatal(err)
	}
	for _, s := range steps {
		if o.failed != "" && s.When != "always" {
			continue
		}
		if s.checkout {
			if m.source != "" {
				if err := os.CopyFS(m.dir, os.DirFS(m.source)); err != nil {
					m.t.Fatal(err)
				}
			}
			continue
		}
		args := append(append(append([]string{}, m.prefix...), m.shell...), "-c", s.Command)
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Dir = m.dir
		cmd.Env = append([]string{"PATH=" + m.bin + ":" + m.path, "HOME=" + m.dir, "BASH_ENV=" + bashEnv}, m.env...)
		cmd.Env = append(cmd.Env, s.environ()...)
		cmd.Stdout, cmd.Stderr = &out, &out
		// A step is a process group: what it started in the background ends with it.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		fmt.Fprintf(&out, "=== %s\n", s.Name)
		if err := cmd.Start(); err != nil {
			m.t.Fatal(err)
		}
		if s.Background {
			background.Go(func() { _ = cmd.Wait() }) // it is ended in the end
			continue
		}
		if err := cmd.Wait(); err != nil && o.failed == "" {
			o.failed, o.code = s.Name, cmd.ProcessState.ExitCode()
		}
	}
	o.output = out.String()
	m.t.Log(o.output)
	return o
}

// output collects what several steps print.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// says reports whether the output has a text, whatever the line breaks.
func (o outcome) says(text string) bool {
	return strings.Contains(strings.Join(strings.Fields(o.output), " "), text)
}
