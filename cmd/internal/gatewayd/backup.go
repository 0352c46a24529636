package gatewayd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/approvals/ledger"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
	"github.com/rack-gateway/rack-gateway-approvals/store/sqlite"
)

func (c *program) backup() *cobra.Command {
	return &cobra.Command{
		Use: "backup FILE", Short: "Write a verified copy of the database beside a running daemon", Args: cobra.ExactArgs(1),
		Example: "  rack-gatewayd backup /backups/gateway.db",
		Long: `Write a copy of the database, beside a running daemon, and check it. FILE appears
only when the copy is complete and on disk. An older backup of that name is replaced
then, and stays as it is if anything fails; any other file of that name is refused.
The keys (RGW_SECRET_KEYS) are not in it: keep them elsewhere.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withStore(cmd.Context(), func(db *store.DB) error {
				if err := db.Backup(cmd.Context(), args[0]); err != nil {
					return err
				}
				c.Say("The copy in %s is complete.", args[0])
				return nil
			})
		},
	}
}

func (c *program) migrate() *cobra.Command {
	var role string
	cmd := &cobra.Command{
		Use: "migrate [--grant ROLE]", Short: "Make the tables of the database, or bring them up to date", Args: cobra.NoArgs,
		Example: "  rack-gatewayd migrate --grant gateway",
		Long: `Make the tables of the database, or bring them up to date. serve does so by itself,
unless its role on a PostgreSQL server may not: then run this as the owner of the
tables, and give the role of serve what it needs with --grant. That role can read
the log and append to it, but change nothing in it. RGW_DATABASE_URL names the
owner here, and that role where serve runs. No keys are needed (RGW_SECRET_KEYS).`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := databaseConfig(c.env)
			if err != nil {
				return err
			}
			if err := store.Migrate(cmd.Context(), cfg.store(), role); err != nil {
				return err
			}
			c.Say("The tables are up to date.")
			return nil
		},
	}
	cmd.Flags().StringVar(&role, "grant", "", "role of serve on a PostgreSQL server")
	return cmd
}

func (c *program) recover() *cobra.Command {
	var accept bool
	cmd := &cobra.Command{
		Use: "recover --accept-rollback", Short: "Go on with a database that was restored from a backup, or changed from outside", Args: cobra.NoArgs,
		Example: "  rack-gatewayd recover --accept-rollback",
		Long: `Accept the database as it is, although it is an older copy than RGW_ANCHOR_FILE
proves, or its log was changed from outside. Stop the daemon first. The whole log is
read before that. One with a damaged or missing event, which would stop the daemon
again, is not accepted: put a backup back.

The log goes on under a new name and key, and the first event after that names the
old checkpoint. The rows of requests, people and tokens are made anew from the log.
Codes that may have been used are refused, and pending requests expire. Approved
ones are compared with CircleCI before anything is approved.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !accept {
				return cli.Usage("pass --accept-rollback: decisions made since the backup are lost from the log")
			}
			cfg, err := storeConfig(c.env)
			if err != nil {
				return err
			}
			if cfg.database != "" {
				if err := existing(cfg.database); err != nil {
					return err
				}
				lock, err := sqlite.TryLock(cfg.database)
				if errors.Is(err, engine.ErrLocked) {
					return errRunning
				}
				if err != nil {
					return err
				}
				defer lock.Release()
			}
			err = c.withStore(cmd.Context(), func(db *store.DB) error { return c.recoverLog(cmd.Context(), db, cfg.AnchorFile) })
			if errors.Is(err, store.ErrServed) {
				return errRunning
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&accept, "accept-rollback", false, "accept that what happened since the backup is lost")
	return cmd
}

// recoverLog has the log of a database that no daemon uses go on under a new name.
func (c *program) recoverLog(ctx context.Context, db *store.DB, anchorFile string) error {
	alone := db.Alone()
	if err := alone.Update(ctx, func(approvals.Tx) error { return nil }); err != nil {
		return err
	}
	signer, err := approvals.OpenLog(ctx, db)
	if err != nil {
		return err
	}
	lost := lostCheckpoint(anchorFile, signer)
	if err := tryAnchor(anchorFile); err != nil {
		return fmt.Errorf("nothing was changed: write RGW_ANCHOR_FILE: %w", err)
	}
	// What may be done although the recovery then fails comes first: the recovery
	// counts as done once the log has its new name.
	if err := db.Doubt(ctx); err != nil {
		return err
	}
	if err := approvals.Recover(ctx, alone, lost, c.operator()); err != nil {
		return err
	}
	if signer, err = approvals.OpenLog(ctx, db); err != nil {
		return err
	}
	if err := startAnchor(ctx, anchorFile, db, signer); err != nil {
		return err
	}
	c.Say("The log goes on as %s. Give auditors the new key (GET /api/v1/audit/key) and start the daemon.", signer.Origin())
	return nil
}

var errRunning = errors.New("the daemon is running: stop it first, on every node")

// lostCheckpoint describes what the anchor file proves of the old log. The file may be
// signed with another key than the restored log's: by a log that another recovery
// continued, or by a database that no longer exists.
func lostCheckpoint(path string, signer *ledger.Signer) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	checkpoint, err := ledger.ParseCheckpoint(text, signer.VerifierKey())
	if err == nil {
		return fmt.Sprintf("%s %d %s", checkpoint.Origin, checkpoint.Size, checkpoint.Root.String())
	}
	lines := strings.SplitN(string(text), "\n", 4)
	if len(lines) < 4 || len(text) > maxAnchor {
		return "unreadable"
	}
	return strings.Join(lines[:3], " ") + " (not signed by this log)"
}

// maxAnchor bounds what of a foreign anchor file gets into the log.
const maxAnchor = 4 << 10

// tryAnchor looks whether the anchor file could be written, so that a recovery
// does not stop half way.
func tryAnchor(path string) error {
	if path == "" {
		return nil
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	beside, err := cli.WriteBeside(path, make([]byte, maxAnchor), 0o600)
	if err != nil {
		return err
	}
	return os.Remove(beside)
}

// startAnchor puts the new log's first checkpoint into the anchor file. What was
// there is in the log now; without this, a checkpoint that neither this log nor
// the one before it signed would forbid every decision for ever.
func startAnchor(ctx context.Context, path string, db *store.DB, signer *ledger.Signer) error {
	if path == "" {
		return nil
	}
	text, err := approvals.New(approvals.Config{Store: db, Signer: signer, Offline: true}).Checkpoint(ctx, 0)
	if err == nil {
		err = replaceFile(path, text)
	}
	if err != nil {
		return fmt.Errorf("the log goes on under a new name, but RGW_ANCHOR_FILE still has the old checkpoint: %w; fix this and run recover again", err)
	}
	return nil
}
