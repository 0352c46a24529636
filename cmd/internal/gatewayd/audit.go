package gatewayd

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit"
	"github.com/rack-gateway/rack-gateway-approvals/circleci"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

func (c *program) auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "audit", Short: "Export, sign, verify and reconcile the log",
		Example: "  rack-gatewayd audit export --with-checkpoint log.checkpoint > log.jsonl",
	}
	cmd.AddCommand(c.auditExport(), c.auditVerify(), c.auditVerifyReceipt(), c.auditCheckpoint(), c.auditKey(), c.auditReconcile(), c.auditReport())
	return cmd
}

// auditor is the log of an opened database.
type auditor struct {
	audit.Log
	unsigned string // why no checkpoint may be signed, "" = all is well
}

// withAuditor runs a command on the log. Where the anchor file is known, a log
// that does not continue what was signed before is not signed.
func (c *program) withAuditor(ctx context.Context, run func(a auditor) error) error {
	cfg, err := storeConfig(c.env)
	if err != nil {
		return err
	}
	return c.withStore(ctx, func(db *store.DB) error {
		signer, err := approvals.OpenLog(ctx, db)
		if err != nil {
			return err
		}
		unsigned, err := checkAnchor(ctx, cfg.AnchorFile, db, signer)
		if err != nil {
			return err
		}
		service := approvals.New(approvals.Config{Store: db, Signer: signer, Rolled: unsigned, Operator: c.operator(), Offline: true})
		return run(auditor{audit.Log{Service: service, Store: db}, unsigned})
	})
}

func (c *program) auditExport() *cobra.Command {
	var format, from, to, app, checkpoint string
	cmd := &cobra.Command{
		Use: "export [--format jsonl|csv] [--from T] [--to T] [--app A] [--with-checkpoint FILE]", Short: "Write the log, or a table of all requests, to stdout",
		Example: `  rack-gatewayd audit export --with-checkpoint log.checkpoint > log.jsonl
  rack-gatewayd audit export --format csv --from 2026-07-01 --to 2026-09-30 --app myapp > requests.csv`,
		Long: `Write the log to stdout: as jsonl the whole log from its start, one event per
line, byte for byte as it was hashed; as csv one row per request, newest first.
--from and --app are for csv. Times are dates (UTC; as --to the whole day) or
RFC 3339. Reading is recorded: without --to the last line of jsonl is the event
of this very export.

--with-checkpoint writes a signed checkpoint that goes with the export: with jsonl
it signs the log up to the last line, with csv it covers every event of every row.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			x, err := audit.ParseExport(format, from, to, app)
			if err != nil {
				return ofFlag(err)
			}
			var f faults
			x.PipelineURL = circleci.Links{AppURL: readVariables(c.env, &f).CircleAppURL}.PipelineURL
			return c.withAuditor(cmd.Context(), func(a auditor) error {
				if checkpoint != "" && a.unsigned != "" {
					return fmt.Errorf("no checkpoint is signed: %s", a.unsigned)
				}
				size, err := a.Export(cmd.Context(), x, c.Out)
				if err != nil || checkpoint == "" {
					return ofFlag(err)
				}
				note, err := a.Checkpoint(cmd.Context(), size)
				if err != nil {
					return err
				}
				if err := replaceFile(checkpoint, note); err != nil {
					return fmt.Errorf("write the checkpoint: %w", err)
				}
				c.Say("The checkpoint of %d events is in %s.", size, checkpoint)
				return nil
			})
		},
	}
	f := cmd.Flags()
	format = audit.ExportJSONL
	cli.Choice(cmd, &format, "format", "", "the log itself, or a table of requests", audit.ExportJSONL, audit.ExportCSV)
	f.StringVar(&from, "from", "", "csv: requests made at this time or later")
	f.StringVar(&to, "to", "", "nothing later than this")
	c.appFlag(cmd, &app, "csv: requests of this app")
	f.StringVar(&checkpoint, "with-checkpoint", "", "file for the signed checkpoint")
	return cmd
}

// ofFlag makes a fault in what a flag says a usage fault.
func ofFlag(err error) error {
	var why *approvals.Error
	if errors.As(err, &why) && why.Code == approvals.CodeInvalid {
		return cli.Usage("--%s", why.Message)
	}
	return err
}

func (c *program) auditCheckpoint() *cobra.Command {
	var size int64
	cmd := &cobra.Command{
		Use: "checkpoint [--size N]", Short: "Print the signed checkpoint of the log, the newest or that of a size", Args: cobra.NoArgs,
		Example: `  rack-gatewayd audit checkpoint > log.checkpoint
  rack-gatewayd audit checkpoint --size 1200`,
		Long: `Print the signed checkpoint of the log, alone on stdout. A copy in other hands
shows later that nothing was changed: see audit verify --since.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("size") && size < 1 {
				return cli.Usage("--size must be 1 or more")
			}
			return c.withAuditor(cmd.Context(), func(a auditor) error {
				note, err := a.Checkpoint(cmd.Context(), size)
				if err != nil {
					return err
				}
				return c.Print(string(note))
			})
		},
	}
	cmd.Flags().Int64Var(&size, "size", 0, "number of events (default: all)")
	return cmd
}

func (c *program) auditKey() *cobra.Command {
	return &cobra.Command{
		Use: "key", Short: "Print the public key that verifies the log's checkpoints", Args: cobra.NoArgs,
		Example: "  rack-gatewayd audit key > log.key",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withAuditor(cmd.Context(), func(a auditor) error {
				return c.Println(a.VerifierKey())
			})
		},
	}
}

// readEvidence reads a file that is small when it is what it should be.
func readEvidence(path string) ([]byte, error) {
	const most = 1 << 20
	info, err := os.Stat(path)
	if err == nil && info.Size() > most {
		err = errors.New("the file is too large")
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}
