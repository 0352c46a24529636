// Package cli is what the command lines of both programs have in common: how
// they end, how they print, what they say about a slip, and what the shell can
// complete. It knows nothing about approvals.
//
// Results go to stdout alone, everything else to stderr. Nothing that the package
// prints can move a terminal's cursor or change its colours, whoever wrote it.
package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The exit codes that both programs have.
const (
	ExitDone  = 0
	ExitFault = 1
	ExitUsage = 2
	// ExitInterrupted is what shells say of a program that Ctrl-C ended.
	ExitInterrupted = 130
)

// Exit ends a program with a code. Err may be nil when everything was said.
type Exit struct {
	Code int
	Err  error
}

// Error implements error.
func (e *Exit) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

// Unwrap returns the reason.
func (e *Exit) Unwrap() error { return e.Err }

// Usage is the error for a call that cannot be carried out as it was written.
func Usage(format string, args ...any) *Exit {
	return &Exit{ExitUsage, fmt.Errorf(format, args...)}
}

// Program is one run of a program.
type Program struct {
	Console
	// Explain gives an error of a command its words and, as an [Exit], its code;
	// an error without one is a fault. nil = errors are fine as they are.
	Explain func(at *cobra.Command, err error) error
	// Service is set by a command to which the end of its context is no
	// interruption: it ends in its own way.
	Service bool
}

// Run runs one command line and returns the exit code.
func (p *Program) Run(ctx context.Context, root *cobra.Command, args []string) int {
	root.SetArgs(args)
	root.SetIn(p.In)
	root.SetOut(p.Out)
	root.SetErr(p.Err)
	Prepare(root)
	at, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitDone
	}
	if ctx.Err() != nil && !p.Service {
		if !errors.Is(err, ctx.Err()) {
			p.sayError(root.Name(), err)
		}
		p.Say("%s: interrupted", root.Name())
		return ExitInterrupted
	}
	if p.Explain != nil {
		err = p.Explain(at, err)
	}
	e := &Exit{ExitFault, err}
	errors.As(err, &e)
	if e.Err != nil {
		p.sayError(root.Name(), err)
		if e.Code == ExitUsage {
			p.Say("Run '%s --help' for usage.", at.CommandPath())
		}
	}
	return e.Code
}

// sayError prints an error, on several lines if it is a report.
func (p *Program) sayError(program string, err error) {
	var report interface{ Lines() []string }
	if !errors.As(err, &report) {
		p.Say("%s: %s", program, err)
		return
	}
	for i, line := range report.Lines() {
		if i == 0 {
			line = program + ": " + line
		}
		p.Say("%s", line)
	}
}

// Prepare gives a tree of commands what all commands have in common: help,
// version and completion, and errors about the command line that are usage
// faults and name what was probably meant.
func Prepare(root *cobra.Command) {
	name := root.Name()
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetUsageFunc(usageOf(root.UsageFunc()))
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(helpCommand(root))
	root.AddCommand(versionCommand(name))
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	if completion, _, err := root.Find([]string{"completion"}); err == nil && completion != root {
		completion.Short = "Print the script with which a shell completes commands"
		completion.Example = "  source <(" + name + " completion bash)"
		for _, shell := range completion.Commands() {
			shell.Example = "  " + shell.CommandPath()
		}
	}
	prepare(root)
	versionFlag(root)
}

// usageOf shows the usage of a group without the line of a call of the group alone: it
// can be called, but only to be told that it wants a command.
//
// Neither this nor [versionFlag] uses a template of cobra. A program that runs one
// calls methods by their names, so that the linker keeps all methods of all types.
func usageOf(usage func(*cobra.Command) error) func(*cobra.Command) error {
	return func(cmd *cobra.Command) error {
		if cmd.HasAvailableSubCommands() {
			group := *cmd
			group.Run, group.RunE = nil, nil
			cmd = &group
		}
		return usage(cmd)
	}
}

func prepare(cmd *cobra.Command) {
	if cmd.HasSubCommands() && cmd.Run == nil && cmd.RunE == nil || cmd.Name() == "completion" {
		cmd.Args, cmd.RunE = subcommandsOnly, groupOnly
	}
	check := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if check != nil {
			if err := check(cmd, args); err != nil {
				return Usage("%w", err)
			}
		}
		// cobra looks at both later, but says nothing of an empty value, and its
		// errors would be no usage faults.
		if err := missingFlag(cmd); err != nil {
			return Usage("%w", err)
		}
		if err := cmd.ValidateFlagGroups(); err != nil {
			return Usage("%w", err)
		}
		return nil
	}
	for _, sub := range cmd.Commands() {
		prepare(sub)
	}
}

// subcommandsOnly is for commands that only group others: an argument is then a
// subcommand that does not exist.
func subcommandsOnly(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), DidYouMean(args[0], subcommands(cmd)))
}

// groupOnly answers a command that only groups others. It fails, so that a script
// with half a command does not go on as if it had asked for something.
func groupOnly(cmd *cobra.Command, _ []string) error {
	cmd.SetOut(cmd.ErrOrStderr())
	if err := cmd.Help(); err != nil {
		return err
	}
	return &Exit{Code: ExitUsage}
}

func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [command]", Short: "Help about any command", Example: "  " + root.Name() + " help completion",
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			at, _, err := root.Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return subcommands(at), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			found, rest, err := root.Find(args)
			if err == nil && len(rest) == 0 {
				found.InitDefaultHelpFlag() // so that it says the same as --help
				return found.Help()
			}
			if len(rest) > 0 {
				args = rest
			}
			return Usage("unknown help topic %q%s", strings.Join(args, " "), DidYouMean(args[0], subcommands(found)))
		},
	}
}

func subcommands(cmd *cobra.Command) []string {
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return names
}

// flagError adds what was probably meant to the error for an unknown flag.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return Usage("%w", err)
	}
	var flags []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { flags = append(flags, "--"+f.Name) })
	return Usage("%w%s", err, DidYouMean("--"+unknown.GetSpecifiedName(), flags))
}
