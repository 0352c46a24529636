package gatewayd

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

func (c *program) rebuild() *cobra.Command {
	var check bool
	var output cli.Format
	cmd := &cobra.Command{
		Use: "rebuild [--check]", Short: "Repair the rows that cache the log where they differ from it", Args: cobra.NoArgs,
		Example: `  rack-gatewayd rebuild --check
  rack-gatewayd rebuild`,
		Long: `Read the whole log, compare it with the rows of requests, people and tokens that
are kept for fast lists, and with the index of their histories, and repair what
differs, beside a running daemon. With --check nothing is changed. Stdout has one
line for each row that differs.

The log itself is verified first. Where it was changed, nothing is compared.

Exit 0: no row differs, or all that did were repaired. Exit 1: --check found a
row that differs, or one could not be repaired.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withStore(cmd.Context(), func(db *store.DB) error {
				return c.rebuildRows(cmd.Context(), db, check, output)
			})
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "only say what differs")
	cli.FormatFlag(cmd, &output)
	return cmd
}

// differenceView is a row that differs, as JSON.
type differenceView struct {
	Subject string `json:"subject"`
	What    string `json:"what"`
	Rebuilt bool   `json:"rebuilt"`
}

func (c *program) rebuildRows(ctx context.Context, db *store.DB, check bool, output cli.Format) error {
	if err := approvals.VerifyLog(ctx, db); err != nil {
		return fmt.Errorf("no row was compared: %w", err)
	}
	found, err := approvals.Rebuild(ctx, db, check)
	if err != nil {
		return fmt.Errorf("not all rows were compared: %w", err)
	}
	views, left, text := []differenceView{}, 0, ""
	for _, d := range found {
		v := differenceView{d.Subject, d.What, !check && !d.Left}
		views = append(views, v)
		if !v.Rebuilt {
			left++
		}
		word := ""
		switch {
		case v.Rebuilt:
			word = " (repaired)"
		case !check:
			word = " (could not be repaired)"
		}
		text += cli.Clean(d.String()) + word + "\n"
	}
	if err := c.Show(output, cli.Result{JSON: views, Text: text}); err != nil {
		return err
	}
	c.Say("%d rows differ from the log; %d were repaired.", len(views), len(views)-left)
	if err := c.sayHold(ctx, db); err != nil {
		return err
	}
	if left > 0 {
		return &cli.Exit{Code: cli.ExitFault}
	}
	return nil
}

// sayHold reminds the operator of a fault that a daemon found before and that still
// stops decisions: correcting the rows does not end it.
func (c *program) sayHold(ctx context.Context, db *store.DB) error {
	fault, err := approvals.LogFault(ctx, db)
	if err == nil && fault != "" {
		c.Say("The gateway approves nothing until you run rack-gatewayd recover --accept-rollback, because an earlier check found a fault: %s", fault)
	}
	return err
}
