package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

// checkFor is how long one check may take beyond its --wait.
const checkFor = 15 * time.Second

func (c *program) checkCommand() *cobra.Command {
	var wait cli.Duration
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check that the gateway can be reached and takes the token",
		Long: `Check that the gateway can be reached and that it takes the token. It reads one
entry of the list of requests and changes nothing.

With --wait it tries again until the gateway answers, as is needed after a job has
joined a private network: a new node is not known to the others at once.

Exit codes: 0 all is well, 8 the token was refused or CircleCI gave none, 10 the
gateway was not reached or does not work.`,
		Example: `  rack-gateway check
  RACK_GATEWAY_PROXY=socks5h://localhost:1055 rack-gateway check --wait 2m`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.connectFor(time.Duration(wait))
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Duration(wait)+checkFor)
			defer cancel()
			if _, err := client.List(ctx, webhook.ListQuery{Limit: 1}); err != nil {
				return checked(client, err)
			}
			return c.Println(fmt.Sprintf("The gateway at %s answers, and it takes the token.", client.URL()))
		},
	}
	cmd.Flags().Var(&wait, "wait", "how long to try until the gateway answers; 0 = once")
	return cmd
}

// checked puts a failed check into a sentence and one of its two exit codes. Only
// the gateway's own answer is a refusal: a login page on the way is none.
func checked(client *webhook.Client, err error) error {
	var own *cli.Exit
	if errors.As(err, &own) {
		return own // there was no call without a token
	}
	var e *cli.Exit
	if !errors.As(failed(err), &e) {
		return err
	}
	var p *webhook.Problem
	switch {
	case !errors.As(err, &p):
		return &cli.Exit{Code: exitUnreachable, Err: fmt.Errorf("the gateway was not reached: %w", e.Err)}
	case e.Code != exitDenied:
		return &cli.Exit{Code: exitUnreachable, Err: fmt.Errorf("the gateway at %s answers, but does not work: %w", client.URL(), e.Err)}
	}
	return &cli.Exit{Code: exitDenied, Err: fmt.Errorf("the token was refused at %s: %w", client.URL(), e.Err)}
}
