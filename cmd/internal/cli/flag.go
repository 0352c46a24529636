package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/plain"
)

// Required refuses a command line that leaves one of the flags out or empty. In a
// script an empty value is mostly a variable that is not set.
func Required(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // the command has no such flag
		}
		cmd.Flags().Lookup(name).Usage += " (required)"
	}
}

func missingFlag(cmd *cobra.Command) (err error) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if len(f.Annotations[cobra.BashCompOneRequiredFlag]) > 0 && f.Value.String() == "" && err == nil {
			err = fmt.Errorf("--%s is required", f.Name)
		}
	})
	return err
}

// Complete lets the shell complete the values of a flag.
func Complete(cmd *cobra.Command, flag string, values func() []string) {
	err := cmd.RegisterFlagCompletionFunc(flag, func(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		fit := slices.DeleteFunc(slices.Clone(values()), func(v string) bool { return !strings.HasPrefix(v, begun) })
		return fit, cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // the command has no such flag
	}
}

// Choice adds a flag whose value is one of some words. What p holds is the
// default, which need not be one of them.
func Choice[T ~string](cmd *cobra.Command, p *T, name, short, usage string, words ...T) {
	c := &choice[T]{p, *p, words}
	cmd.Flags().VarP(c, name, short, usage)
	Complete(cmd, name, c.list)
}

type choice[T ~string] struct {
	value    *T
	fallback T
	words    []T
}

func (c *choice[T]) list() []string {
	var words []string
	for _, w := range c.words {
		words = append(words, string(w))
	}
	return words
}

// String implements pflag.Value.
func (c *choice[T]) String() string {
	if c.value == nil { // pflag asks a zero value, too
		return ""
	}
	return string(*c.value)
}

// Type implements pflag.Value.
func (c *choice[T]) Type() string { return strings.Join(c.list(), "|") }

// Set implements pflag.Value.
func (c *choice[T]) Set(s string) error {
	if T(s) != c.fallback && !slices.Contains(c.words, T(s)) {
		return fmt.Errorf("must be one of %s%s", strings.Join(c.list(), ", "), DidYouMean(s, c.list()))
	}
	*c.value = T(s)
	return nil
}

// Duration is a duration as people write and read it, and a flag for one that is not negative.
type Duration time.Duration

// String implements pflag.Value.
func (d Duration) String() string { return plain.Duration(time.Duration(d)) }

// Type implements pflag.Value.
func (d *Duration) Type() string { return "duration" }

// Set implements pflag.Value.
func (d *Duration) Set(s string) error {
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return fmt.Errorf("must be a duration such as 90s or 20m")
	}
	*d = Duration(v)
	return nil
}
