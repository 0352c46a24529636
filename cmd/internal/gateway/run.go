// Package gateway is the program rack-gateway: flags and CI variables in,
// calls to the HTTP API, an exit code out.
//
// Results go to stdout alone, everything else to stderr. The package holds no
// rules about approvals, and nothing that it prints can move a terminal's
// cursor or change its colours.
package gateway

import (
	"context"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

// program is one run of the program.
type program struct {
	cli.Program
	env     map[string]string
	environ []string
	carded  bool // the card's link was printed

	// Set by persistent flags.
	retryFor cli.Duration
}

// Run runs the program and returns its exit code. args are without the
// program's name, env is in the form of [os.Environ].
func Run(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := &program{env: map[string]string{}, environ: env}
	c.Console = cli.Console{In: stdin, Out: stdout, Err: stderr}
	c.Explain = notDeploying
	for _, kv := range env {
		if name, value, ok := strings.Cut(kv, "="); ok {
			c.env[variable(name)] = value
		}
	}
	return c.Run(ctx, c.root(), args)
}

// variable is the name of a variable for comparison: to Windows Path and PATH are one.
func variable(name string) string {
	if runtime.GOOS == "windows" {
		return strings.ToUpper(name)
	}
	return name
}

// Main is the program: [Run] with the arguments, environment and streams of the
// process, whose secrets it first puts out of the reach of other processes.
func Main() int {
	env := hide(os.Environ())
	guardMemory()
	return Run(context.Background(), os.Args[1:], env, os.Stdin, os.Stdout, os.Stderr)
}

func (c *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "rack-gateway",
		Short: "Ask for deploy approvals and deploy under them",
		Long: `Ask for deploy approvals and deploy under them.

The gateway and the token come from the environment:
  RACK_GATEWAY_URL             the gateway, such as https://gateway.example.ts.net
  RACK_GATEWAY_API_TOKEN       an API token with the role cicd (or …_FILE, a file that holds it)
  RACK_GATEWAY_OIDC_TOKEN      without that: the OIDC token of a CircleCI job
  RACK_GATEWAY_OIDC_AUDIENCE   audience of the OIDC token to ask for (default: RACK_GATEWAY_URL)
  RACK_GATEWAY_ENV             the environment when --environment is not given
  RACK_GATEWAY_PROXY           a proxy for the way to the gateway alone (http, https, socks5, socks5h)
Without a token a CircleCI job asks CircleCI for its own (circleci run oidc get).
When RACK_GATEWAY_PROXY is not set, HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY
are honoured.

` + exitHelp + "\n\n" + deployExitHelp,
		Example: `  rack-gateway check
  rack-gateway deploy-approval request --app myapp --message "Deploy main"
  rack-gateway deploy --app myapp -- ./deploy.sh`,
	}
	approval := &cobra.Command{
		Use: "deploy-approval", Aliases: []string{"deploy-approvals"}, Short: "File, watch and withdraw deploy approval requests",
		Example: `  rack-gateway deploy-approval request --app myapp
  rack-gateway deploy-approval wait --app myapp
  rack-gateway deploy-approval show '#12'`,
	}
	approval.AddCommand(c.requestCommand(), c.waitCommand(), c.showCommand(), c.listCommand(), c.cancelCommand(), c.verifyCommand())
	root.AddCommand(approval, c.deployCommand(), c.checkCommand())
	c.retryFor = cli.Duration(defaultRetryFor)
	root.PersistentFlags().Var(&c.retryFor, "retry-for", "how long to repeat calls that get no answer, 429 or a 5xx that may pass; 0 = do not repeat")
	return root
}
