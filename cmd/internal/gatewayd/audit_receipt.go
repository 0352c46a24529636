package gatewayd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

// receiptVerdict is what the verification of a receipt says, as JSON.
type receiptVerdict struct {
	Genuine     bool     `json:"genuine"`
	Why         string   `json:"why,omitempty"`
	Log         string   `json:"log,omitempty"` // its origin
	Seq         int64    `json:"seq"`
	At          string   `json:"at,omitempty"`
	Request     string   `json:"request,omitempty"`
	App         string   `json:"app,omitempty"`
	Environment string   `json:"environment,omitempty"`
	Commit      string   `json:"commit,omitempty"`
	WorkflowID  string   `json:"workflow_id,omitempty"`
	Facts       string   `json:"facts,omitempty"` // hash of the facts that were approved
	People      []string `json:"people,omitempty"`
	Signed      int64    `json:"signed,omitempty"` // size of the tree that the checkpoint signs
	Root        string   `json:"root,omitempty"`
}

func (c *program) auditVerifyReceipt() *cobra.Command {
	var key string
	var output cli.Format
	cmd := &cobra.Command{
		Use: "verify-receipt FILE --key KEY", Short: "Check the receipt of a deploy offline", Args: cobra.ExactArgs(1),
		Example: `  rack-gatewayd audit verify-receipt receipt.json --key log.key
  grep '^Receipt: ' job.log | rack-gatewayd audit verify-receipt - --key log.key`,
		Long: `Check the receipt that a deploy job got ("-" reads stdin), offline and without any
variable: that the decision in it is an entry of the log whose key is KEY. FILE is what
deploy --receipt kept, or the line that begins with "Receipt: " in the job's log. KEY
is the text that audit key prints, or a file with it; take it from somebody else than
the receipt.

Exit 0: genuine, and it is an approval. Exit 1: changed, of another log, or no
approval. Exit 2: usage, also when the file cannot be read or is no receipt.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			in := c.In
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return cli.Usage("read the receipt: %w", err)
				}
				defer f.Close()
				in = f
			}
			vkey, err := readKey(key)
			if err != nil {
				return cli.Usage("%w", err)
			}
			return c.judgeReceipt(cli.Interruptible(cmd.Context(), in), vkey, output)
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "verifier key, or a file with it")
	cli.FormatFlag(cmd, &output)
	cli.Required(cmd, "key")
	return cmd
}

func (c *program) judgeReceipt(in io.Reader, vkey string, output cli.Format) error {
	text, err := io.ReadAll(io.LimitReader(in, 1<<20))
	if err != nil {
		return cli.Usage("read the receipt: %w", err)
	}
	text = bytes.TrimPrefix(bytes.TrimSpace(text), []byte("Receipt: "))
	r, err := ledger.ParseReceipt(text)
	if err != nil {
		return cli.Usage("this is no receipt: give the file that rack-gateway wrote with --receipt, or the JSON that verify printed")
	}
	v, err := judgedReceipt(r, vkey)
	switch {
	case errors.Is(err, ledger.ErrVerifierKey):
		return cli.Usage("--key is neither a verifier key as audit key prints it nor a file with one")
	case err != nil && output == cli.JSON:
		if err := c.JSON(receiptVerdict{Seq: r.Seq, Why: err.Error()}); err != nil {
			return err
		}
		return &cli.Exit{Code: cli.ExitFault}
	case err != nil:
		return err
	case output == cli.JSON:
		return c.JSON(v)
	}
	return c.Println(fmt.Sprintf("genuine: event %d of log %s approves request %s (%s, environment %s), commit %s, at %s, by %s; signed with the root %s of %d events",
		v.Seq, v.Log, v.Request, v.App, v.Environment, v.Commit, v.At, strings.Join(v.People, ", "), v.Root, v.Signed))
}

// judgedReceipt verifies a receipt and says what it proves.
func judgedReceipt(r ledger.Receipt, vkey string) (v receiptVerdict, err error) {
	if err := r.Verify(vkey); err != nil {
		return v, err
	}
	signed, err := ledger.ParseCheckpoint([]byte(r.Checkpoint), vkey)
	if err != nil {
		return v, err
	}
	e, err := approvals.ParseEvent([]byte(r.Leaf))
	if err != nil {
		return v, err
	}
	if !e.Type.Approves() {
		return v, fmt.Errorf("event %d of the log is no approval: its type is %s", r.Seq, e.Type)
	}
	return receiptVerdict{
		Genuine: true, Log: signed.Origin, Seq: r.Seq, At: e.Time, Request: e.Request, App: e.App, Environment: e.Environment,
		Commit: e.Data["commit"], WorkflowID: e.Data["workflow_id"], Facts: e.Facts, People: e.People, Signed: signed.Size, Root: signed.Root.String(),
	}, nil
}
