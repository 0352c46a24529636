package store

import (
	"context"

	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
	"github.com/rack-gateway/rack-gateway-approvals/store/sqlite"
)

// ParseURL reads the URL of a database, "sqlite:PATH", and returns the path of
// its file.
func ParseURL(url string) (path string, err error) { return sqlite.ParseURL(url) }

// openEngine opens the database of a URL.
func openEngine(ctx context.Context, url string) (engine.Engine, error) {
	path, err := sqlite.ParseURL(url)
	if err != nil {
		return nil, err
	}
	return sqlite.Open(ctx, path)
}
