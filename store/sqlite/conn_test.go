package sqlite

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
)

func TestWeakSettingsAreRefused(t *testing.T) {
	for _, param := range []string{
		"_synchronous=FULL", "_foreign_keys=on", "_recursive_triggers=on", "_busy_timeout=5000", "_journal_mode=WAL",
	} {
		path := filepath.Join(t.TempDir(), "x.db")
		name, _, _ := strings.Cut(param, "=")
		for _, to := range []string{"x" + name + "=ignored", name + "=1"} {
			if name == "_foreign_keys" || name == "_recursive_triggers" {
				to = strings.Replace(to, name+"=1", name+"=0", 1)
			}
			if name == "_journal_mode" {
				to = strings.Replace(to, name+"=1", name+"=TRUNCATE", 1)
			}
			// 5000 ms is the driver's default too.
			want := error(engine.ErrWeakSettings)
			if to == "x_busy_timeout=ignored" {
				want = nil
			}
			if err := connectWith(t.Context(), path, param, to); !errors.Is(err, want) {
				t.Errorf("connect with %s in place of %s: got %v; want %v", to, param, err, want)
			}
		}
	}
}

// connectWith opens a writing connection whose parameter from reads to instead.
func connectWith(ctx context.Context, path, from, to string) error {
	c := writerTo(path)
	c.dsn = strings.Replace(c.dsn, from, to, 1)
	conn, err := c.Connect(ctx)
	if err == nil {
		conn.Close()
	}
	return err
}
