package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

const (
	envDeployCommand = "RACK_GATEWAY_DEPLOY_COMMAND"

	// reportFor is how long a report may hold up the deploy.
	reportFor = 15 * time.Second
	// killAfter is how long the command has to end after it was told to.
	killAfter = 10 * time.Second
)

func (c *cli) deployCommand() *cobra.Command {
	var flags verifyFlags
	var keepToken bool
	cmd := &cobra.Command{
		Use:   "deploy --app APP [-- COMMAND…]",
		Short: "Deploy if this workflow and commit is approved",
		Long: `Verify that this workflow and commit is approved, run the command, report what
became of it, and exit with its code. Signals are passed on.

Without a command it runs sh -c "$RACK_GATEWAY_DEPLOY_COMMAND", and if that is not
set either: convox deploy --app APP --wait. The command does not see
RACK_GATEWAY_API_TOKEN unless --keep-token is given.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
				return fmt.Errorf("put -- before the command: rack-gateway deploy --app APP -- %s", strings.Join(args, " "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = c.defaultDeploy(flags.app)
			}
			client, verified, err := c.verify(cmd.Context(), flags)
			if err != nil {
				return err
			}
			return c.deploy(cmd.Context(), client, verified.Request.ID, args, keepToken)
		},
	}
	flags.add(cmd.Flags())
	cmd.Flags().BoolVar(&keepToken, "keep-token", false, "let the command see RACK_GATEWAY_API_TOKEN")
	return cmd
}

func (c *cli) defaultDeploy(app string) []string {
	if command := c.env[envDeployCommand]; command != "" {
		return []string{"sh", "-c", command}
	}
	return []string{"convox", "deploy", "--app", app, "--wait"}
}

// deploy runs the command between two reports. A report that does not get
// through never stops a deploy that was approved.
func (c *cli) deploy(ctx context.Context, client *webhook.Client, id string, args []string, keepToken bool) error {
	report := func(phase, detail string) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportFor)
		defer cancel()
		body := webhook.DeployBody{Phase: phase, Detail: detail, JobID: c.given("", ciJob)}
		if _, err := client.ReportDeploy(ctx, id, body); err != nil {
			c.say("Warning: could not report that the deploy %s: %s", phase, err)
		}
	}
	report("started", "")
	code, err := c.run(ctx, args, keepToken)
	switch {
	case err != nil:
		report("failed", "the command could not be run")
		return &exit{code: exitUnexpected, err: fmt.Errorf("run %s: %w", args[0], err)}
	case code != 0:
		report("failed", fmt.Sprintf("exit code %d", code))
		return &exit{code: code}
	}
	report("succeeded", "")
	return nil
}

// run runs a command to its end and returns its exit code, 128 + n when signal
// n killed it, as shells do.
func (c *cli) run(ctx context.Context, args []string, keepToken bool) (int, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = c.childEnv(keepToken)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.stdin, c.stdout, c.stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = killAfter

	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ended := make(chan struct{})
	passed := make(chan struct{})
	fromTerminal := isTerminal(c.stdin)
	go func() {
		defer close(passed)
		for {
			select {
			case s := <-signals:
				// A terminal sends these to the command too.
				if fromTerminal && (s == syscall.SIGINT || s == syscall.SIGQUIT) {
					continue
				}
				_ = cmd.Process.Signal(s) // it may have ended just now
			case <-ended:
				return
			}
		}
	}()
	err := cmd.Wait()
	close(ended)
	<-passed
	if cmd.ProcessState == nil {
		return 0, err
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	var exited *exec.ExitError
	if err != nil && !errors.As(err, &exited) && !errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

// childEnv is our environment without the token.
func (c *cli) childEnv(keepToken bool) []string {
	if keepToken {
		return c.environ
	}
	return slices.DeleteFunc(slices.Clone(c.environ), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return name == envToken || name == envTokenFile
	})
}

func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
