package gatewayd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
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

func (c *program) auditVerify() *cobra.Command {
	var checkpoint, key, since string
	var output cli.Format
	cmd := &cobra.Command{
		Use: "verify FILE --checkpoint FILE --key KEY [--since OLDER]", Short: "Check an export offline", Args: cobra.ExactArgs(1),
		Example: `  rack-gatewayd audit verify log.jsonl --checkpoint log.checkpoint --key log.key
  rack-gatewayd audit verify log.jsonl --checkpoint log.checkpoint --key log.key --since july.checkpoint -o json`,
		Long: `Check an export (jsonl; "-" reads stdin) against its signed checkpoint, offline
and without any variable. KEY is the text that audit key prints, or a file with
it; take it from somebody else than the export. --since names a checkpoint kept
from earlier and proves that what it signed is still the beginning of the log.

Exit 0: intact; events behind the checkpoint are counted as not anchored yet.
Exit 1: changed or cut; the first bad sequence number is named. Exit 2: usage.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts, err := readProof(checkpoint, key, since)
			if err != nil {
				return cli.Usage("%w", err)
			}
			in := c.In
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return cli.Usage("read the export: %w", err)
				}
				defer f.Close()
				in = cli.Interruptible(cmd.Context(), f)
			}
			return c.judge(in, opts, output)
		},
	}
	f := cmd.Flags()
	f.StringVar(&checkpoint, "checkpoint", "", "file with the signed checkpoint")
	f.StringVar(&key, "key", "", "verifier key, or a file with it")
	f.StringVar(&since, "since", "", "file with an older checkpoint")
	cli.FormatFlag(cmd, &output)
	cli.Required(cmd, "checkpoint", "key")
	return cmd
}

func readProof(checkpoint, key, since string) (opts ledger.VerifyOptions, err error) {
	if opts.Checkpoint, err = readNote(checkpoint); err != nil {
		return opts, fmt.Errorf("--checkpoint: %w", err)
	}
	if since != "" {
		if opts.Since, err = readNote(since); err != nil {
			return opts, fmt.Errorf("--since: %w", err)
		}
	}
	opts.Key, err = readKey(key)
	return opts, err
}

// readNote reads a signed checkpoint. Somebody who copies it from a report gets other
// line ends, or none behind the last line; what was signed has none of that.
func readNote(path string) ([]byte, error) {
	text, err := readEvidence(path)
	if err != nil {
		return nil, err
	}
	return append(bytes.TrimSpace(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))), '\n'), nil
}

// readKey reads a verifier key, which is given as it is or as a file.
func readKey(key string) (string, error) {
	switch text, err := readEvidence(key); {
	case err == nil:
		key = string(text)
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR): // its first part may be the name of a file
		return "", fmt.Errorf("--key: %w", err)
	}
	return strings.TrimSpace(key), nil
}

func (c *program) judge(in io.Reader, opts ledger.VerifyOptions, output cli.Format) error {
	report, err := ledger.Verify(in, opts)
	var bad *ledger.TamperError
	switch {
	case err == nil:
		return c.sayIntact(report, output)
	case errors.Is(err, ledger.ErrVerifierKey):
		return cli.Usage("--key is neither a verifier key as audit key prints it nor a file with one")
	case output == cli.JSON && (errors.As(err, &bad) || errors.Is(err, ledger.ErrCheckpoint)):
		v := verdict{Why: err.Error()}
		if bad != nil {
			v.FirstBadSeq, v.Why = &bad.Seq, bad.Why
		}
		if err := c.JSON(v); err != nil {
			return err
		}
		return &cli.Exit{Code: cli.ExitFault}
	case !errors.As(err, &bad) && !errors.Is(err, ledger.ErrCheckpoint):
		return cli.Usage("%w", err) // the file cannot be read, which says nothing of the log
	}
	return err
}

func (c *program) sayIntact(r ledger.Report, output cli.Format) error {
	if output == cli.JSON {
		return c.JSON(verdict{
			Intact: true, Log: r.Checkpoint.Origin, Events: r.Size, Anchored: r.Checkpoint.Size, NotAnchored: r.NotAnchored, Root: r.Root.String(),
		})
	}
	return c.Println(fmt.Sprintf("intact: %d events of log %s, %d of them signed with root %s; %d events not anchored yet",
		r.Size, r.Checkpoint.Origin, r.Checkpoint.Size, r.Checkpoint.Root.String(), r.NotAnchored))
}
