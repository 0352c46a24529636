package gatewayd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
)

// verdict is what a verification says, as JSON.
type verdict struct {
	Intact      bool   `json:"intact"`
	Log         string `json:"log,omitempty"` // its origin
	Events      int64  `json:"events,omitempty"`
	Anchored    int64  `json:"anchored,omitempty"`
	NotAnchored int64  `json:"not_anchored"`
	Root        string `json:"root,omitempty"` // of all events of the export
	FirstBadSeq *int64 `json:"first_bad_seq,omitempty"`
	Why         string `json:"why,omitempty"`
}

func (c *cli) auditVerify() *cobra.Command {
	var checkpoint, key, since, output string
	cmd := &cobra.Command{
		Use: "verify FILE --checkpoint FILE --key KEY [--since OLDER]", Short: "Check an export offline", Args: cobra.ExactArgs(1),
		Long: `Check an export (jsonl; "-" reads stdin) against its signed checkpoint, offline
and without any variable. KEY is the text that audit key prints, or a file with
it; take it from somebody else than the export. --since names a checkpoint kept
from earlier and proves that what it signed is still the beginning of the log.

Exit 0: intact; events behind the checkpoint are counted as not anchored yet.
Exit 1: changed or cut; the first bad sequence number is named. Exit 2: usage.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			opts, err := readProof(checkpoint, key, since)
			if err != nil {
				return usageError{err}
			}
			in := c.stdin
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return usageError{fmt.Errorf("read the export: %w", err)}
				}
				defer f.Close()
				in = interruptible(cmd.Context(), f)
			}
			return c.judge(in, opts, output)
		},
	}
	f := cmd.Flags()
	f.StringVar(&checkpoint, "checkpoint", "", "file with the signed checkpoint")
	f.StringVar(&key, "key", "", "verifier key, or a file with it")
	f.StringVar(&since, "since", "", "file with an older checkpoint")
	outputFlag(cmd, &output)
	required(cmd, "checkpoint", "key")
	return cmd
}

func readProof(checkpoint, key, since string) (opts ledger.VerifyOptions, err error) {
	if opts.Checkpoint, err = readEvidence(checkpoint); err != nil {
		return opts, fmt.Errorf("--checkpoint: %w", err)
	}
	if since != "" {
		if opts.Since, err = readEvidence(since); err != nil {
			return opts, fmt.Errorf("--since: %w", err)
		}
	}
	opts.Key = key
	switch text, err := readEvidence(key); {
	case err == nil:
		opts.Key = string(text)
	case !errors.Is(err, fs.ErrNotExist):
		return opts, fmt.Errorf("--key: %w", err)
	}
	opts.Key = strings.TrimSpace(opts.Key)
	return opts, nil
}

func (c *cli) judge(in io.Reader, opts ledger.VerifyOptions, output string) error {
	report, err := ledger.Verify(in, opts)
	var bad *ledger.TamperError
	switch {
	case err == nil:
		return c.sayIntact(report, output)
	case errors.Is(err, ledger.ErrVerifierKey):
		return usageError{errors.New("--key is neither a verifier key as audit key prints it nor a file with one")}
	case output == "json" && (errors.As(err, &bad) || errors.Is(err, ledger.ErrCheckpoint)):
		v := verdict{Why: err.Error()}
		if bad != nil {
			v.FirstBadSeq, v.Why = &bad.Seq, bad.Why
		}
		if err := c.printJSON(v); err != nil {
			return err
		}
		return exitError(exitFault)
	case !errors.As(err, &bad) && !errors.Is(err, ledger.ErrCheckpoint):
		return usageError{err} // the file cannot be read, which says nothing of the log
	}
	return err
}

func (c *cli) sayIntact(r ledger.Report, output string) error {
	if output == "json" {
		return c.printJSON(verdict{
			Intact: true, Log: r.Checkpoint.Origin, Events: r.Size, Anchored: r.Checkpoint.Size, NotAnchored: r.NotAnchored, Root: r.Root.String(),
		})
	}
	_, err := fmt.Fprintf(c.stdout, "intact: %d events of log %s, %d of them signed with root %s; %d events not anchored yet\n",
		r.Size, printable(r.Checkpoint.Origin), r.Checkpoint.Size, r.Checkpoint.RootText(), r.NotAnchored)
	return err
}
