// Package gatewayd is the daemon and the operator's commands: it reads the
// configuration, wires the packages together and runs them. It decides nothing
// itself. It is a package of its own so that the demo runs the very same code.
package gatewayd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	_ "time/tzdata" // for the zones of freezes, on machines and in images that have none

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

// version is set by the linker for builds outside a module proxy or checkout.
var version = ""

// Exit codes.
const (
	exitOK    = 0
	exitFault = 1
	exitUsage = 2
	// exitInterrupted is what shells say of a program that Ctrl-C ended.
	exitInterrupted = 130
)

// cli carries what every command needs of the process.
type cli struct {
	env    []string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer

	serving bool // the command is serve, which ends with the context as it should
}

// usageError is a call that cannot be carried out as it was written.
type usageError struct{ error }

// exitError ends the program with a code after everything was said.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// Run runs one command line until it is done or ctx ends, and returns the exit
// code: 0 done, 1 fault, 2 usage, 130 interrupted. serve ends with ctx and 0.
func Run(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := &cli{env: env, stdin: interruptible(ctx, stdin), stdout: stdout, stderr: stderr}
	root := c.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var code exitError
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case ctx.Err() != nil && !c.serving:
		if !errors.Is(err, ctx.Err()) {
			fmt.Fprintf(stderr, "rack-gatewayd: %v\n", err)
		}
		fmt.Fprintln(stderr, "rack-gatewayd: interrupted")
		return exitInterrupted
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "rack-gatewayd: %v\nSee rack-gatewayd help.\n", err)
		return exitUsage
	}
	var domain *approvals.Error
	switch {
	case errors.Is(err, store.ErrUnavailable): // why is for the operator to know
		err = fmt.Errorf("the database cannot be used: %w", err)
	case approvals.LogChanged(err): // so is what was changed
	case errors.As(err, &domain) && domain.Code == approvals.CodeInvalid: // what was typed cannot be right
		fmt.Fprintf(stderr, "rack-gatewayd: %s\nSee rack-gatewayd help.\n", domain.Message)
		return exitUsage
	case errors.As(err, &domain):
		err = errors.New(domain.Message)
	}
	fmt.Fprintf(stderr, "rack-gatewayd: %v\n", err)
	return exitFault
}

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "rack-gatewayd",
		Short: "Deploy approvals in Slack for CircleCI",
		Long: `rack-gatewayd is the bot of Rack Gateway Approvals. "serve" runs it; the other
commands are the operator's and work beside a running daemon.

The configuration comes from the environment: cmd/rack-gatewayd/README.md lists it.`,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	root.SetIn(c.stdin)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		c.serve(), c.check(), c.keygen(), c.healthcheck(), c.settingsCommand(), c.manifest(), c.versionCommand(),
		c.tokenCommand(), c.userCommand(), c.backup(), c.recover(), c.rebuild(), c.keysCommand(), c.auditCommand(), c.accessReview(),
	)
	root.SetHelpCommand(&cobra.Command{
		Use: "help [command]", Short: "Help about any command",
		RunE: func(_ *cobra.Command, args []string) error {
			found, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usageError{fmt.Errorf("unknown help topic %q", strings.Join(args, " "))}
			}
			return found.Help()
		},
	})
	withUsage(root)
	return root
}

// withUsage makes every fault in the words of a call a usage fault.
func withUsage(cmd *cobra.Command) {
	if cmd.HasSubCommands() && cmd.RunE == nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				// It fails, so that a script with half a command does not go on.
				cmd.SetOut(cmd.ErrOrStderr())
				return errors.Join(cmd.Help(), exitError(exitUsage))
			}
			return usageError{fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())}
		}
		cmd.Args = cobra.ArbitraryArgs
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError{err}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		withUsage(sub)
	}
}

func buildVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (v == "" || v == "(devel)") {
			v = s.Value
		}
	}
	if v == "" {
		v = "(devel)"
	}
	return v
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(c.stdout, "rack-gatewayd", buildVersion())
			return err
		},
	}
}
