// Package gateway is the program rack-gateway: flags and CI variables in,
// calls to the HTTP API, an exit code out.
//
// Results go to stdout alone, everything else to stderr. The package holds no
// rules about approvals, and nothing that it prints can move a terminal's
// cursor or change its colours.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// cli is one run of the program.
type cli struct {
	env      map[string]string
	environ  []string
	stdin    io.Reader
	stdout   io.Writer
	stderr   io.Writer
	terminal bool // stderr is one
	carded   bool // the card's link was printed

	// Set by persistent flags.
	retryFor durationFlag
}

// Run runs the program and returns its exit code. args are without the
// program's name, env is in the form of [os.Environ].
func Run(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := &cli{env: map[string]string{}, environ: env, stdin: stdin, stdout: stdout, stderr: stderr}
	for _, kv := range env {
		if name, value, ok := strings.Cut(kv, "="); ok {
			c.env[name] = value
		}
	}
	c.terminal = isTerminal(stderr)
	root := c.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	at, err := root.ExecuteContextC(ctx)
	return c.finish(at, err)
}

// Main is the program: [Run] with the arguments, environment and streams of the
// process, whose secrets it first puts out of the reach of other processes.
func Main() int {
	env := hide(os.Environ())
	guardMemory()
	return Run(context.Background(), os.Args[1:], env, os.Stdin, os.Stdout, os.Stderr)
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// finish reports how a command ended. Errors that no command returned are about
// the command line.
func (c *cli) finish(at *cobra.Command, err error) int {
	var e *exit
	switch {
	case err == nil:
		return exitDone
	case !errors.As(err, &e):
		e = usage("%w", err)
	}
	if e.err != nil {
		c.say("rack-gateway: %s", e.err)
		if e.code == exitUsage {
			c.say("Run '%s --help' for usage.", at.CommandPath())
		}
	}
	return e.code
}

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "rack-gateway",
		Short: "Ask for deploy approvals and deploy under them",
		Long: `Ask for deploy approvals and deploy under them.

The gateway and the token come from the environment:
  RACK_GATEWAY_URL             the gateway, such as https://gateway.example.ts.net
  RACK_GATEWAY_API_TOKEN       an API token with the role cicd (or …_FILE, a file that holds it)
  RACK_GATEWAY_ENV             the environment when --environment is not given
  RACK_GATEWAY_PROXY           a proxy for the way to the gateway alone (http, https, socks5, socks5h)
Without the last one HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY are honoured.

` + exitHelp,
		Example: `  rack-gateway check
  rack-gateway deploy-approval request --app myapp --message "Deploy main"
  rack-gateway deploy --app myapp -- ./deploy.sh`,
		Version:       programVersion(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          subcommands,
		RunE:          groupOnly,
	}
	root.SetVersionTemplate(versionLine())
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(&cobra.Command{
		Use: "help [command]", Short: "Help about any command", Example: "  rack-gateway help deploy-approval request",
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				word := ""
				if found != nil && len(rest) > 0 {
					word = didYouMean(found, "", rest[0])
				}
				return usage("unknown help topic %q%s", strings.Join(args, " "), word)
			}
			return found.Help()
		},
	})
	approval := &cobra.Command{
		Use: "deploy-approval", Aliases: []string{"deploy-approvals"}, Short: "File, watch and withdraw deploy approval requests",
		Example: `  rack-gateway deploy-approval request --app myapp
  rack-gateway deploy-approval wait --app myapp
  rack-gateway deploy-approval show '#12'`,
		Args: subcommands, RunE: groupOnly,
	}
	approval.AddCommand(c.requestCommand(), c.waitCommand(), c.showCommand(), c.listCommand(), c.cancelCommand(), c.verifyCommand())
	root.AddCommand(approval, c.deployCommand(), c.checkCommand(), c.versionCommand())
	completeValues(root)
	c.retryFor = durationFlag(defaultRetryFor)
	root.PersistentFlags().Var(&c.retryFor, "retry-for", "how long to repeat calls that get no answer, 429 or a 5xx that may pass; 0 = not at all")
	return root
}

// groupOnly answers a command that only groups others. It fails, so that a job
// with half a command does not go on as if it had asked for something.
func groupOnly(cmd *cobra.Command, _ []string) error {
	cmd.SetOut(cmd.ErrOrStderr())
	if err := cmd.Help(); err != nil {
		return err
	}
	return &exit{code: exitUsage}
}

// say prints one line for people.
func (c *cli) say(format string, args ...any) {
	fmt.Fprintln(c.stderr, clean(fmt.Sprintf(format, args...)))
}
