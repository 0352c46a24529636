package gateway

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

const (
	envDeployCommand = "RACK_GATEWAY_DEPLOY_COMMAND"

	// reportFor is how long a report may hold up the deploy.
	reportFor = 15 * time.Second
	// killAfter is how long the command has to end after our own run was ended.
	killAfter = 10 * time.Second
)

// errNotStarted means that a signal came before the command was started.
var errNotStarted = errors.New("a signal came before the command was started")

func (c *program) deployCommand() *cobra.Command {
	var flags verifyFlags
	var keepToken bool
	cmd := &cobra.Command{
		Use:   "deploy --app APP [-- COMMAND…]",
		Short: "Deploy if this workflow and commit is approved",
		Long: `Verify that this workflow and commit is approved, run the command, report what
became of it, and exit with its code.

Without a command it runs sh -c "$RACK_GATEWAY_DEPLOY_COMMAND", and if that is not
set either: convox deploy --app APP --wait. The command cannot read the token, not
even through /proc, unless --keep-token is given, and it does not see
RACK_GATEWAY_PROXY. It never sees the OIDC token that rack-gateway got from
CircleCI.

The command runs in a process group of its own. A signal to rack-gateway reaches
the whole group once, and rack-gateway ends when the whole group has ended.

` + exitHelp + "\n\n" + deployExitHelp,
		Example: `  rack-gateway deploy --app myapp -- ./deploy.sh production
  rack-gateway deploy --app myapp --environment production --receipt receipt.json
  RACK_GATEWAY_DEPLOY_COMMAND='make deploy' rack-gateway deploy --app myapp`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
				return fmt.Errorf("put -- before the command: rack-gateway deploy --app APP -- %s", strings.Join(args, " "))
			}
			if len(args) == 0 && cmd.ArgsLenAtDash() == 0 {
				return errors.New("there is no command behind --: give one, or leave -- out")
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
			if flags.receipt == "" {
				if err := c.logReceipt(verified.Receipt); err != nil {
					return err
				}
			}
			c.Service = true // how the command ends is what counts
			return c.deploy(cmd.Context(), client, verified.Request.ID, args, keepToken)
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&keepToken, "keep-token", false, "let the command see RACK_GATEWAY_API_TOKEN or RACK_GATEWAY_OIDC_TOKEN")
	return cmd
}

func (c *program) defaultDeploy(app string) []string {
	if command := c.env[envDeployCommand]; strings.TrimSpace(command) != "" {
		return []string{"sh", "-c", command}
	}
	return []string{"convox", "deploy", "--app", app, "--wait"}
}

// deploy runs the command between two reports. A report that does not get
// through never stops a deploy that was approved.
func (c *program) deploy(ctx context.Context, client *webhook.Client, id string, args []string, keepToken bool) error {
	report := func(phase, detail string) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportFor)
		defer cancel()
		body := webhook.DeployBody{Phase: phase, Detail: detail, JobID: c.given("", ciJob)}
		if _, err := client.ReportDeploy(ctx, id, body); err != nil {
			c.Say("Warning: could not report that the deploy %s: %s", phase, err)
		}
	}
	signals := newRelay()
	defer signals.stop()
	report("started", "")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = c.childEnv(keepToken)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.In, c.Out, c.Err
	code, err := c.runGroup(ctx, cmd, signals)
	switch {
	case errors.Is(err, errNotStarted):
		report("failed", "ended by a signal before the command was started")
		return &cli.Exit{Code: code, Err: err}
	case err != nil:
		report("failed", "the command could not be run")
		return &cli.Exit{Code: cli.ExitFault, Err: fmt.Errorf("run %s: %w", args[0], err)}
	case code != 0:
		report("failed", fmt.Sprintf("exit code %d", code))
		c.Say("The deploy command ended with exit code %d.", code)
		return &cli.Exit{Code: code}
	}
	report("succeeded", "")
	return nil
}

// signalCode is the exit code for a process that a signal ended, as shells give it.
func signalCode(s os.Signal) int {
	if n, ok := s.(syscall.Signal); ok {
		return 128 + int(n)
	}
	return cli.ExitFault
}

// childEnv is our environment without our tokens, and without our proxy, which
// is for the way to the gateway alone.
func (c *program) childEnv(keepToken bool) []string {
	_, env := split(c.environ, func(name string) bool {
		return name == envProxy || !keepToken && (name == envToken || name == envTokenFile || name == envOIDCToken)
	})
	return env
}

// split divides an environment by the names of its variables.
func split(env []string, is func(name string) bool) (those, others []string) {
	for _, kv := range env {
		if name, _, _ := strings.Cut(kv, "="); is(variable(name)) {
			those = append(those, kv)
		} else {
			others = append(others, kv)
		}
	}
	return those, others
}
