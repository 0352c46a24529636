// Package gatewayd is the daemon and the operator's commands: it reads the
// configuration, wires the packages together and runs them. It decides nothing
// itself. It is a package of its own so that the demo runs the very same code.
package gatewayd

import (
	"context"
	"errors"
	"fmt"
	"io"
	_ "time/tzdata" // for the zones of freezes, on machines and in images that have none

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

// program carries what every command needs of the process.
type program struct {
	cli.Program
	env []string
}

// Run runs one command line until it is done or ctx ends, and returns the exit
// code: 0 done, 1 fault, 2 usage, [exitNewer], 130 interrupted. serve ends with ctx
// and 0.
func Run(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := &program{env: env}
	c.Console = cli.Console{In: cli.Interruptible(ctx, stdin), Out: stdout, Err: stderr}
	c.Explain = explain
	return c.Run(ctx, c.root(), args)
}

// exitNewer is the exit code when a newer version has migrated the database: this
// one must not be started again.
const exitNewer = 3

// explain puts an error of the core into words for the operator. What was typed
// and cannot be right is a usage fault.
func explain(_ *cobra.Command, err error) error {
	var exit *cli.Exit
	var domain *approvals.Error
	switch {
	case errors.As(err, &exit):
		return err
	case errors.Is(err, store.ErrNewerSchema):
		return &cli.Exit{Code: exitNewer, Err: err}
	case errors.Is(err, store.ErrUnavailable): // only the operator may read why
		return fmt.Errorf("the database cannot be used: %w", err)
	case approvals.LogChanged(err): // only the operator may read what was changed
		return err
	case errors.As(err, &domain) && domain.Code == approvals.CodeInvalid:
		return cli.Usage("%s", domain.Message)
	case errors.As(err, &domain):
		return errors.New(domain.Message)
	}
	return err
}

func (c *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "rack-gatewayd",
		Short: "Deploy approvals in Slack for CircleCI",
		Long: `rack-gatewayd is the bot of Rack Gateway Approvals. "serve" runs it; the other
commands are the operator's and work beside a running daemon.

The configuration comes from the environment: cmd/rack-gatewayd/README.md lists it.

Exit codes: 0 done, 1 fault, 2 usage, 3 a newer version has migrated the database,
130 interrupted.`,
		Example: `  rack-gatewayd check
  rack-gatewayd serve`,
	}
	root.AddCommand(
		c.serve(), c.check(), c.keygen(), c.healthcheck(), c.explainCommand(), c.settingsCommand(), c.manifest(),
		c.tokenCommand(), c.userCommand(), c.backup(), c.migrate(), c.copy(), c.recover(), c.rebuild(), c.keysCommand(), c.auditCommand(), c.accessReview(),
	)
	return root
}

// appFlag adds -a, whose values the shell completes from the settings.
func (c *program) appFlag(cmd *cobra.Command, app *string, usage string) {
	cmd.Flags().StringVarP(app, "app", "a", "", usage)
	cli.Complete(cmd, "app", c.knownApps)
}

// placeFlags adds -a and -e, which name an app and its environment.
func (c *program) placeFlags(cmd *cobra.Command, app, environment *string) {
	c.appFlag(cmd, app, "name of the app")
	cmd.Flags().StringVarP(environment, "environment", "e", "", "name of the environment (default: the default one)")
	cli.Complete(cmd, "environment", func() []string {
		settings, _ := approvals.ParseSettings(c.env, "")
		return settings.Environments(*app)
	})
	cli.Required(cmd, "app")
}

func (c *program) knownApps() []string {
	settings, _ := approvals.ParseSettings(c.env, "")
	return settings.Apps()
}
