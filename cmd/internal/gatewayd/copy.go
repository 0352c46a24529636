package gatewayd

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
	"github.com/rack-gateway/rack-gateway-approvals/store/sqlite"
)

func (c *program) copy() *cobra.Command {
	var from, to string
	cmd := &cobra.Command{
		Use: "copy --from URL --to URL", Short: "Copy everything to an empty database, of the same engine or another one", Args: cobra.NoArgs,
		Example: `  rack-gatewayd copy --from sqlite:/data/rack-gateway.db --to postgres://gateway@db.example.com/gateway
  RGW_DATABASE_URL_FILE=/run/secrets/database rack-gatewayd copy --from sqlite:/data/rack-gateway.db`,
		Long: `Copy everything to an empty database, and compare the two: every event of the log,
and the number of rows of every table. URLs are those of RGW_DATABASE_URL.
RGW_DATABASE_CA_FILE counts for both.

Whoever lists the processes of this machine sees the flags. To keep a password out
of them leave one of the two flags out: RGW_DATABASE_URL, or RGW_DATABASE_URL_FILE,
says which database it is. PGPASSWORD and a password file work, too.

Stop the daemons first. The key ring (RGW_SECRET_KEYS) stays the same.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var f faults
			v := readVariables(c.env, &f)
			if err := onlyAbout(f, "RGW_DATABASE_URL", "RGW_DATABASE_CA_FILE").err(); err != nil {
				return err
			}
			source, release, err := c.end("--from", from, v)
			if err != nil {
				return err
			}
			defer release()
			target, release, err := c.end("--to", to, v)
			if err != nil {
				return err
			}
			defer release()
			copied, err := store.Copy(cmd.Context(), source, target)
			if err != nil {
				return err
			}
			c.Say("%d rows and %d events were copied; the root of the log is %s.", copied.Rows, copied.Events, copied.Root)
			return nil
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "the database to copy (default: RGW_DATABASE_URL)")
	cmd.Flags().StringVar(&to, "to", "", "an empty database, which is created if it does not exist (default: RGW_DATABASE_URL)")
	cmd.MarkFlagsOneRequired("from", "to")
	return cmd
}

// end is one of the two databases of a copy. Nobody serves on a file before release,
// which leaves beside it what was there before.
func (c *program) end(flag, url string, v variables) (cfg store.Config, release func(), err error) {
	cfg, name := store.Config{URL: url}, flag
	if url == "" {
		cfg.URL, name = v.DatabaseURL.reveal(), "RGW_DATABASE_URL"
	} else if cfg.HasPassword() {
		c.Say("Warning: whoever lists the processes of this machine sees the password in %s. Leave the flag out and set RGW_DATABASE_URL or RGW_DATABASE_URL_FILE.", flag)
	}
	path, err := cfg.Path()
	if err != nil {
		return cfg, nil, fmt.Errorf("%s %w", name, err)
	}
	if path == "" {
		cfg.CAFile = v.DatabaseCA
		return cfg, func() {}, nil
	}
	if flag == "--from" {
		if err := existing(path); err != nil {
			return cfg, nil, err
		}
	}
	fresh := missing(path + ".lock")
	lock, err := sqlite.TryLock(path)
	if errors.Is(err, engine.ErrLocked) {
		err = store.ErrServed
	}
	if err != nil {
		return cfg, nil, fmt.Errorf("%s: %w", name, err)
	}
	free := lock.Release
	if fresh {
		free = lock.Remove
	}
	return cfg, func() {
		if err := free(); err != nil {
			c.Say("Release the lock of %s: %v", name, err)
		}
	}, nil
}
