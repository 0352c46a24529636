// Package clitest checks what the help of every command owes to its reader.
package clitest

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

// maxShort is how long the line about a command in a list may be.
const maxShort = 90

// Walk fails for each command below root without a Short that begins with a
// capital and is no sentence, with a flag that is not explained, or without
// examples that could be run as they are written.
func Walk(t *testing.T, root *cobra.Command) {
	t.Helper()
	cli.Prepare(root)
	walk(t, root)
}

func walk(t *testing.T, cmd *cobra.Command) {
	t.Helper()
	first, _ := utf8.DecodeRuneInString(cmd.Short)
	if !unicode.IsUpper(first) || strings.HasSuffix(cmd.Short, ".") || len(cmd.Short) > maxShort {
		t.Errorf("%s: got the Short %q; want a capital, no full stop, at most %d bytes", cmd.CommandPath(), cmd.Short, maxShort)
	}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Usage == "" {
			t.Errorf("%s: --%s is not explained", cmd.CommandPath(), f.Name)
		}
	})
	found := 0
	for line := range strings.Lines(cmd.Example) {
		_, call, ok := strings.Cut(strings.TrimSpace(line), cmd.CommandPath())
		if !ok {
			continue
		}
		found++
		words := strings.Fields(strings.TrimRight(call, ")"))
		at, _, err := cmd.Find(words)
		if err != nil || cmd.HasSubCommands() && at == cmd && cmd.HasParent() {
			t.Errorf("%s: the example %q names no subcommand", cmd.CommandPath(), strings.TrimSpace(line))
			continue
		}
		for _, word := range words {
			if word == "--" {
				break
			}
			if name, ok := strings.CutPrefix(word, "--"); ok && at.Flags().Lookup(name) == nil && at.InheritedFlags().Lookup(name) == nil {
				t.Errorf("%s: the example %q has an unknown flag %s", cmd.CommandPath(), strings.TrimSpace(line), word)
			}
		}
	}
	if found == 0 {
		t.Errorf("%s: its help has no example that calls it", cmd.CommandPath())
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() || sub.Name() == "help" {
			walk(t, sub)
		}
	}
}
