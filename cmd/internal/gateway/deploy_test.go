package gateway_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gateway"
)

// deployable is a gateway that lets this workflow deploy.
func deployable(t *testing.T) *gatewayd {
	t.Helper()
	return serve(t, map[string][]reply{"POST /verify": {{200, verified()}}, "POST /R1/deploy": {{200, request("released")}}})
}

func TestDeploy(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		env     []string
		args    []string
		code    int
		stdout  string
		reports []string
	}{
		{"command", nil, []string{"--", "sh", "-c", "echo deployed $1; exit 0", "sh", "it"}, 0, "deployed it\n", []string{`"started"`, `"succeeded"`}},
		{"its code", nil, []string{"--", "sh", "-c", "exit 42"}, 42, "", []string{`"started"`, `"failed","detail":"exit code 42"`}},
		{"a code that the client has, too", nil, []string{"--", "sh", "-c", "exit 3"}, 3, "", []string{`"started"`, `"failed","detail":"exit code 3"`}},
		{"killed", nil, []string{"--", "sh", "-c", "kill -9 $$"}, 137, "", []string{`"started"`, `"failed","detail":"exit code 137"`}},
		{"no such command", nil, []string{"--", "/does/not/exist"}, 1, "", []string{`"started"`, `"failed","detail":"the command could not be run"`}},
		{"from the environment", []string{"RACK_GATEWAY_DEPLOY_COMMAND=echo from $WHERE", "WHERE=env"}, nil, 0, "from env\n", []string{`"started"`, `"succeeded"`}},
		{"no token", nil, []string{"--", "sh", "-c", `echo "[$RACK_GATEWAY_API_TOKEN]$CIRCLE_SHA1"`}, 0, "[]" + commit + "\n", []string{`"started"`, `"succeeded"`}},
		{"token kept", nil, []string{"--keep-token", "--", "sh", "-c", `test -n "$RACK_GATEWAY_API_TOKEN" && echo kept`}, 0, "kept\n", []string{`"started"`, `"succeeded"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := serve(t, map[string][]reply{"POST /verify": {{200, verified()}}, "POST /R1/deploy": {{200, request("released")}}})
			got := run(t, g.env(append(tt.env, circle...)...), append([]string{"deploy", "--app", "myapp"}, tt.args...)...)
			if got.code != tt.code || got.stdout != tt.stdout {
				t.Errorf("got %+v; want exit %d and %q", got, tt.code, tt.stdout)
			}
			// The code alone could be the client's: 3 is rejected.
			ended := strings.Contains(tt.reports[1], "exit code")
			if strings.Contains(got.stderr, fmt.Sprintf("The deploy command ended with exit code %d.", tt.code)) != ended {
				t.Errorf("got %+v; want it said whether the code is the command's: %t", got, ended)
			}
			calls := g.calls()
			if len(calls) != 1+len(tt.reports) {
				t.Fatalf("calls %q; want verify and %d reports", calls, len(tt.reports))
			}
			for i, report := range tt.reports {
				if want := `POST /R1/deploy {"phase":` + report + `,"job_id":"` + job + `"}`; calls[i+1] != want {
					t.Errorf("report %d: got %s; want %s", i, calls[i+1], want)
				}
			}
		})
	}
}

// A blank command is none: it would do nothing, and be recorded as a deploy.
func TestABlankCommandIsNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "convox"), []byte("#!/bin/sh\necho \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "deploy", "--app", "myapp")
	cmd.Env = append(deployable(t).env(circle...), asProgram+"=1", "RACK_GATEWAY_DEPLOY_COMMAND= \n", "PATH="+dir)
	if out, err := cmd.Output(); err != nil || string(out) != "deploy --app myapp --wait\n" {
		t.Errorf("got %q, %v; want that convox deploys", out, err)
	}
}

// What was not approved is not run; what was is run even if nobody can be told.
func TestDeployNeedsTheApprovalOnly(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ran")
	g := serve(t, map[string][]reply{"POST /verify": {problem(409, "not_approved", "request #7 is pending")}})
	if got := run(t, g.env(circle...), "deploy", "--app", "myapp", "--", "touch", file); got.code != 9 || !strings.Contains(got.stderr, "request #7 is pending") {
		t.Errorf("got %+v; want exit 9", got)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the command ran without an approval")
	}
	g = serve(t, map[string][]reply{"POST /verify": {{200, verified()}}, "POST /R1/deploy": {problem(500, "internal", "x")}})
	if got := run(t, g.env(circle...), "deploy", "--app", "myapp", "--", "touch", file); got.code != 0 || !strings.Contains(got.stderr, "could not report") {
		t.Errorf("got %+v; want exit 0 and a warning", got)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error("the command did not run")
	}
}

// When the run is ended, the command is told to end, and its code is passed on.
func TestDeployPassesTheEndOn(t *testing.T) {
	t.Parallel()
	g := serve(t, map[string][]reply{"POST /verify": {{200, verified()}}, "POST /R1/deploy": {{200, request("released")}}})
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	go func() {
		_, _ = out.Read(make([]byte, 1)) // the command runs
		cancel()
		_, _ = io.Copy(io.Discard, out)
	}()
	script := `trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done`
	code := gateway.Run(ctx, []string{"deploy", "--app", "myapp", "--", "sh", "-c", script}, g.env(circle...), strings.NewReader(""), in, io.Discard)
	if code != 7 {
		t.Errorf("got exit %d; want the command's 7", code)
	}
	if calls := g.calls(); !strings.Contains(calls[len(calls)-1], `"failed"`) {
		t.Errorf("last call %q; want the failure reported", calls[len(calls)-1])
	}
}

// The program itself, so that a signal reaches only it.
func TestDeployPassesSignalsOn(t *testing.T) {
	t.Parallel()
	g := serve(t, map[string][]reply{"POST /verify": {{200, verified()}}, "POST /R1/deploy": {{200, request("released")}}})
	script := `trap 'exit 7' TERM; trap 'exit 8' INT; echo ready; while :; do sleep 0.05; done`
	for sig, want := range map[os.Signal]int{syscall.SIGTERM: 7, os.Interrupt: 8} {
		cmd := exec.Command(os.Args[0], "deploy", "--app", "myapp", "--", "sh", "-c", script)
		cmd.Env = append(g.env(circle...), asProgram+"=1")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_, _ = out.Read(make([]byte, 1)) // the command runs
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("%s: got exit %d; want the command's %d", sig, got, want)
		}
	}
}
