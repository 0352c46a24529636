package gatewayd

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
	"github.com/rack-gateway/rack-gateway-approvals/store"
)

// resealBatch is how many secrets are sealed anew in one transaction: a running
// daemon waits for no more than that.
const resealBatch = 50

func (c *program) keysCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "keys", Short: "Manage the keys of RGW_SECRET_KEYS", Example: "  rack-gatewayd keys rotate"}
	cmd.AddCommand(c.keysRotate())
	return cmd
}

func (c *program) keysRotate() *cobra.Command {
	var output cli.Format
	cmd := &cobra.Command{
		Use: "rotate", Short: "Seal all secrets again, with the first key of RGW_SECRET_KEYS", Args: cobra.NoArgs,
		Example: `  rack-gatewayd keys rotate
  rack-gatewayd keys rotate -o json`,
		Long: `Seal all secrets again, with the first key of RGW_SECRET_KEYS, in batches, beside
a running daemon. Stdout lists the ids of the keys that may then leave the ring.

 1. Put a new key (keygen) in front of the old ones in RGW_SECRET_KEYS, separated
    by a comma, and restart the daemon. Several nodes on PostgreSQL need a step
    before that: add the new key behind the old ones on every node, restarting
    one after the other. Then put it in front on every node in the same way. A
    node does not start while it seals with a key that another one lacks, or
    another one seals with a key that it lacks.
 2. Run keys rotate with the same RGW_SECRET_KEYS.
 3. Take the keys that it lists out of the ring, here and at every daemon.

A key that something is sealed with cannot be left out: the daemon and every
command refuse such a ring and name the key. Backups that were made before still
need it.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := storeConfig(c.env)
			if err != nil {
				return err
			}
			return c.withStore(cmd.Context(), func(db *store.DB) error {
				r, err := rotate(cmd.Context(), db, cfg.keys.IDs(), c.operator())
				if err != nil {
					return err
				}
				return c.printRotation(r, output)
			})
		},
	}
	cli.FormatFlag(cmd, &output)
	return cmd
}

// rotation is what came of a rotation.
type rotation struct {
	Sealing  string   `json:"sealing"`  // id of the key that seals
	Resealed int      `json:"resealed"` // secrets sealed anew
	Unused   []string `json:"unused"`   // ids of the keys of the ring that may leave it
	InUse    []string `json:"in_use"`   // ids of other keys that something is sealed with
}

// rotate seals anew and records it, also when it could not be finished.
func rotate(ctx context.Context, db *store.DB, ring []string, operator string) (rotation, error) {
	r := rotation{Sealing: ring[0], Unused: []string{}, InUse: []string{}}
	var fault error
	for done := false; !done && fault == nil; {
		var n int
		done, n, fault = db.Reseal(ctx, resealBatch)
		r.Resealed += n
	}
	used, err := db.UsedKeys(ctx)
	if err != nil {
		return r, err
	}
	for _, id := range ring[1:] {
		if slices.Contains(used, id) {
			r.InUse = append(r.InUse, id)
		} else {
			r.Unused = append(r.Unused, id)
		}
	}
	e := approvals.Event{
		Type: approvals.EventKeysRotated, Actor: approvals.Operator(operator), Source: "operator", Outcome: "done",
		Data: map[string]string{"key": r.Sealing, "resealed": strconv.Itoa(r.Resealed), "unused": strings.Join(r.Unused, " ")},
	}
	if fault != nil || len(r.InUse) > 0 {
		e.Outcome = "unfinished"
		e.Data["in_use"] = strings.Join(r.InUse, " ")
	}
	if err := approvals.New(approvals.Config{Store: db}).Record(ctx, e); err != nil {
		return r, err
	}
	return r, fault
}

func (c *program) printRotation(r rotation, output cli.Format) error {
	c.Say("%d secrets are now sealed with key %s.", r.Resealed, r.Sealing)
	unused := strings.Join(r.Unused, "\n")
	if unused != "" {
		unused += "\n"
	}
	if err := c.Show(output, cli.Result{JSON: r, Text: unused}); err != nil {
		return err
	}
	switch {
	case len(r.InUse) > 0:
		return fmt.Errorf("still in use: %s. A daemon with another first key seals with it: restart it with this RGW_SECRET_KEYS, then run keys rotate again",
			strings.Join(r.InUse, ", "))
	case len(r.Unused) > 0:
		c.Say("Nothing is sealed with these any more; they may leave RGW_SECRET_KEYS: %s", strings.Join(r.Unused, ", "))
	default:
		c.Say("RGW_SECRET_KEYS has no other key.")
	}
	return nil
}
