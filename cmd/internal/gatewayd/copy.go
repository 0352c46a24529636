package gatewayd

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
	"github.com/rack-gateway/rack-gateway-approvals/store/sqlite"
)

func (c *program) copy() *cobra.Command {
	var from, to string
	cmd := &cobra.Command{
		Use: "copy --from URL --to URL", Short: "Copy everything to an empty database, of the same engine or another one", Args: cobra.NoArgs,
		Example: "  rack-gatewayd copy --from sqlite:/data/rack-gateway.db --to postgres://gateway@db.example.com/gateway",
		Long: `Copy everything to an empty database, and compare the two: every event of the log,
and the number of rows of every table. URLs are those of RGW_DATABASE_URL. Whoever
lists the processes of this machine sees them: leave a password out of them, and
give it in PGPASSWORD or a password file. RGW_DATABASE_CA_FILE counts for both.

Stop the daemons first. The key ring (RGW_SECRET_KEYS) stays the same.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var f faults
			ca := readVariables(c.env, &f).DatabaseCA
			if err := onlyAbout(f, "RGW_DATABASE_CA_FILE").err(); err != nil {
				return err
			}
			source, target := store.Config{URL: from}, store.Config{URL: to}
			for flag, cfg := range map[string]*store.Config{"--from": &source, "--to": &target} {
				path, err := cfg.Path()
				if err != nil {
					return fmt.Errorf("%s %w", flag, err)
				}
				if path == "" {
					cfg.CAFile = ca
					continue
				}
				if flag == "--from" {
					if err := existing(path); err != nil {
						return err
					}
				}
				lock, err := sqlite.TryLock(path)
				if errors.Is(err, engine.ErrLocked) {
					return fmt.Errorf("%s: %w", flag, store.ErrServed)
				}
				if err != nil {
					return err
				}
				defer lock.Release()
			}
			copied, err := store.Copy(cmd.Context(), source, target)
			if err != nil {
				return err
			}
			c.Say("%d rows and %d events were copied; the root of the log is %s.", copied.Rows, copied.Events, copied.Root)
			return nil
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "the database to copy")
	cmd.Flags().StringVar(&to, "to", "", "an empty database, which is made if it is not there")
	cli.Required(cmd, "from", "to")
	return cmd
}
