package gatewayd

import (
	"io"
	"log/slog"

	"github.com/lmittmann/tint"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

func parseLevel(s string) (level slog.Level, err error) {
	err = level.UnmarshalText([]byte(s))
	return level, err
}

// newLog writes one line an entry: JSON, or coloured on a terminal.
func newLog(w io.Writer, level, format string) *slog.Logger {
	l, err := parseLevel(level)
	if err != nil {
		l = slog.LevelInfo
	}
	if format == "tint" || format == "auto" && cli.IsTerminal(w) {
		return slog.New(tint.NewTextHandler(w, &tint.Options{Level: l, NoColor: !cli.IsTerminal(w), ReplaceAttr: readable}))
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l, ReplaceAttr: readable}))
}

// readable writes a duration as a text with its unit. JSON would have nanoseconds.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(plain.Duration(a.Value.Duration()))
	}
	return a
}
