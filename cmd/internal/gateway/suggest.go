package gateway

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// subcommands is for commands that only group others: an argument is then a
// subcommand that does not exist.
func subcommands(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), didYouMean(cmd, "", args[0]))
}

// flagError adds what was probably meant to the error for an unknown flag.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	// cobra finds similar names among commands only, so the flags pose as some.
	flags := &cobra.Command{}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		flags.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
	})
	return fmt.Errorf("%w%s", err, didYouMean(flags, "--", unknown.GetSpecifiedName()))
}

func didYouMean(among *cobra.Command, prefix, word string) string {
	if among.SuggestionsMinimumDistance <= 0 {
		among.SuggestionsMinimumDistance = 2
	}
	var names []string
	for _, name := range among.SuggestionsFor(word) {
		names = append(names, prefix+name)
	}
	if len(names) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(names, " or ") + "?"
}

// completeValues lets the shell complete the values of flags that take one of
// some words.
func completeValues(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if choice, ok := f.Value.(interface{ words() []string }); ok {
			// It fails only for a flag that does not exist.
			_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(choice.words(), cobra.ShellCompDirectiveNoFileComp))
		}
	})
	for _, sub := range cmd.Commands() {
		completeValues(sub)
	}
}
