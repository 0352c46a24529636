package gatewayd

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit/sheet"
)

// evidence is a list that is handed on: as a table for reading, as CSV or JSON
// for keeping. The first row of a table is its heading.
type evidence struct {
	tables [][][]string
	sheet  [][]string // all tables in one
	json   any
}

func evidenceFlag(cmd *cobra.Command, output *string) {
	cmd.Flags().StringVarP(output, "output", "o", "table", "table, csv or json")
}

func checkEvidence(output string) error {
	switch output {
	case "table", "csv", "json":
		return nil
	}
	return usageError{fmt.Errorf("--output must be table, csv or json")}
}

func (c *cli) printEvidence(output string, e evidence) error {
	switch output {
	case "json":
		return c.printJSON(e.json)
	case "csv":
		w := sheet.NewWriter(c.stdout)
		for _, row := range e.sheet {
			if err := w.Row(row...); err != nil {
				return err
			}
		}
		return w.Flush()
	}
	for i, table := range e.tables {
		if i > 0 {
			fmt.Fprintln(c.stdout)
		}
		if err := c.printTable(table); err != nil {
			return err
		}
	}
	return nil
}
