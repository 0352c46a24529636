package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker (-X) for builds outside of a checkout.
var version string

// Version is the version of the running program, from its build information.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

func versionLine(program string) string {
	return fmt.Sprintf("%s %s (%s, %s/%s)\n", program, Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func versionCommand(program string) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Example: "  " + program + " version", Args: cobra.NoArgs,
		RunE: printVersion,
	}
}

func printVersion(cmd *cobra.Command, _ []string) error {
	_, err := fmt.Fprint(cmd.OutOrStdout(), versionLine(cmd.Root().Name()))
	return err
}

// versionFlag has root, which is prepared otherwise, answer --version.
func versionFlag(root *cobra.Command) {
	asked := root.Flags().BoolP("version", "v", false, "version for "+root.Name())
	// The shell completes nothing after it, as after cobra's own.
	_ = root.Flags().SetAnnotation("version", cobra.FlagSetByCobraAnnotation, []string{"true"})
	check, run := root.Args, root.RunE
	root.Args = func(cmd *cobra.Command, args []string) error {
		if *asked {
			return nil
		}
		return check(cmd, args)
	}
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if *asked {
			return printVersion(cmd, args)
		}
		return run(cmd, args)
	}
}
