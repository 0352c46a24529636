package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/cli"
)

type result struct {
	code     int
	out, err string
}

// fruit is a program with a group, a closed value and a required flag.
func fruit(ctx context.Context, run func(p *cli.Program, cmd *cobra.Command, format cli.Format) error, args ...string) result {
	var out, errs bytes.Buffer
	p := &cli.Program{Console: cli.Console{In: strings.NewReader(""), Out: &out, Err: &errs}}
	p.Explain = func(_ *cobra.Command, err error) error {
		if errors.Is(err, context.DeadlineExceeded) {
			return &cli.Exit{Code: 7, Err: errors.New("too late")}
		}
		return err
	}
	root := &cobra.Command{Use: "fruit", Short: "Fruit"}
	group := &cobra.Command{Use: "basket", Short: "Baskets"}
	var format cli.Format
	var kind, place string
	show := &cobra.Command{
		Use: "show", Short: "Show", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(p, cmd, format) },
	}
	show.Flags().StringVar(&place, "place", "", "where")
	show.Flags().Bool("here", false, "here")
	show.Flags().Bool("there", false, "there")
	show.MarkFlagsMutuallyExclusive("here", "there")
	cli.Choice(show, &kind, "kind", "k", "what", "apple", "banana")
	cli.FormatFlag(show, &format, cli.CSV)
	cli.Required(show, "place")
	group.AddCommand(show)
	root.AddCommand(group)
	code := p.Run(ctx, root, args)
	return result{code, out.String(), errs.String()}
}

func TestEnds(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name string
		ctx  context.Context
		err  error
		want result
	}{
		{"done", t.Context(), nil, result{0, "", ""}},
		{"fault", t.Context(), errors.New("no"), result{1, "", "fruit: no\n"}},
		{"a code", t.Context(), &cli.Exit{Code: 9, Err: errors.New("no")}, result{9, "", "fruit: no\n"}},
		{"a code in the middle", t.Context(), fmt.Errorf("there: %w", &cli.Exit{Code: 9, Err: errors.New("no")}), result{9, "", "fruit: there: no\n"}},
		{"a code alone", t.Context(), &cli.Exit{Code: 9}, result{9, "", ""}},
		{"usage", t.Context(), cli.Usage("not %d", 3), result{2, "", "fruit: not 3\nRun 'fruit basket show --help' for usage.\n"}},
		{"explained", t.Context(), context.DeadlineExceeded, result{7, "", "fruit: too late\n"}},
		{"controls", t.Context(), errors.New("a\x1b[2J\nb"), result{1, "", "fruit: a\\u001b[2J\\u000ab\n"}},
		{"a report", t.Context(), fmt.Errorf("x: %w", report{"two faults:", "  a\x1b"}), result{1, "", "fruit: two faults:\n  a\\u001b\n"}},
		{"interrupted", ended, ended.Err(), result{130, "", "fruit: interrupted\n"}},
		{"interrupted with a word", ended, cli.Usage("no"), result{130, "", "fruit: no\nfruit: interrupted\n"}},
	} {
		got := fruit(tt.ctx, func(*cli.Program, *cobra.Command, cli.Format) error { return tt.err }, "basket", "show", "--place", "x")
		if got != tt.want {
			t.Errorf("%s: got %+v; want %+v", tt.name, got, tt.want)
		}
	}
	got := fruit(ended, func(p *cli.Program, _ *cobra.Command, _ cli.Format) error { p.Service = true; return errors.New("no") }, "basket", "show", "--place", "x")
	if want := (result{1, "", "fruit: no\n"}); got != want {
		t.Errorf("a service: got %+v; want %+v", got, want)
	}
}

type report []string

func (r report) Error() string   { return strings.Join(r, "\n") }
func (r report) Lines() []string { return r }

// What is wrong with a command line is exit 2, on stderr alone, and says what was
// probably meant.
func TestSlips(t *testing.T) {
	t.Parallel()
	ran := func(*cli.Program, *cobra.Command, cli.Format) error { t.Error("the command ran"); return nil }
	for line, says := range map[string]string{
		"":                                     "Available Commands",
		"basket":                               "fruit basket [command]",
		"baskt":                                `unknown command "baskt" for "fruit"; did you mean basket?`,
		"zzz":                                  `unknown command "zzz" for "fruit"` + "\n",
		"basket shwo":                          "did you mean show?",
		"help basket shwo":                     `unknown help topic "shwo"; did you mean show?`,
		"completion bsh":                       "did you mean bash?",
		"completion":                           "fruit completion [command]",
		"basket show --plce x":                 "unknown flag: --plce; did you mean --place?",
		"basket show --zzz":                    "unknown flag: --zzz\n",
		"basket show -z":                       "unknown shorthand flag",
		"basket show":                          "--place is required",
		"basket show --place=":                 "--place is required",
		"basket show extra --place x":          "unknown command",
		"basket show --place x --kind aple":    "must be one of apple, banana; did you mean apple?",
		"basket show --place x -o jsno":        "must be one of text, json, csv; did you mean json?",
		"basket show --place x -o yaml":        "must be one of text, json, csv\n",
		"basket show --place x --here --there": "[here there]",
		"basket show --place x --here=perhaps": "--here",
		"basket show --place x -k \x1b[2J":     `invalid argument "\x1b[2J"`,
		"basket show --place x --\x1b[2J":      `\u001b[2J`,
		"\x1b[2J":                              `unknown command "\x1b[2J"`,
	} {
		got := fruit(t.Context(), ran, strings.Fields(line)...)
		if got.code != 2 || got.out != "" || !strings.Contains(got.err, says) || strings.Contains(got.err, "\x1b") || strings.Contains(got.err, "basket [flags]") {
			t.Errorf("%q: got %+v; want exit 2 and %q on stderr", line, got, says)
		}
	}
}

func TestVersionHelpCompletion(t *testing.T) {
	t.Parallel()
	for line, says := range map[string]string{
		"version":                           "fruit " + cli.Version() + " (go",
		"--version":                         "fruit " + cli.Version() + " (go",
		"baskt --version":                   "fruit " + cli.Version() + " (go",
		"help basket":                       "Baskets",
		"help":                              "-v, --version   version for fruit",
		"basket show --help":                "where (required)",
		"completion bash":                   "bash completion",
		"__complete bas":                    "basket",
		"__complete --v":                    "--version",
		"__complete help ":                  "basket\n",
		"__complete basket show --ki":       "--kind",
		"__complete basket show --kind a":   "apple\n",
		"__complete basket show --output j": "json\n",
		"__complete basket show --p":        "--place",
	} {
		args := strings.Fields(line)
		if strings.HasSuffix(line, " ") {
			args = append(args, "")
		}
		if got := fruit(t.Context(), nil, args...); got.code != 0 || !strings.Contains(got.out, says) {
			t.Errorf("%q: got %d, %.300q; want %q", line, got.code, got.out, says)
		}
	}
}

func TestShow(t *testing.T) {
	t.Parallel()
	evil := "a\x1b[31m\n=1"
	shown := cli.Result{
		JSON: map[string]string{"name": evil + "<"}, Text: "Found:\n",
		Tables: [][][]string{{{"NAME", "N"}, {evil, ""}}, {{"B"}}}, Sheet: [][]string{{"name"}, {"=1"}},
	}
	for format, want := range map[string]string{
		"text": "Found:\n\nNAME                 N\na\\u001b[31m\\u000a=1  -\n\nB\n",
		"json": "{\n  \"name\": \"a\\u001b[31m\\n=1<\"\n}\n",
		"csv":  "name\n'=1\n",
	} {
		got := fruit(t.Context(), func(p *cli.Program, _ *cobra.Command, f cli.Format) error { return p.Show(f, shown) }, "basket", "show", "--place", "x", "-o", format)
		if got.code != 0 || got.out != want || got.err != "" {
			t.Errorf("%s: got %+v; want\n%s", format, got, want)
		}
	}
	full := func(p *cli.Program, _ *cobra.Command, f cli.Format) error { p.Out = broken{}; return p.Show(f, shown) }
	for _, format := range []string{"text", "json", "csv"} {
		if got := fruit(t.Context(), full, "basket", "show", "--place", "x", "-o", format); got.code != 1 || !strings.Contains(got.err, "disk full") {
			t.Errorf("%s: got %+v; want exit 1 and why", format, got)
		}
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"0": "0s", "24h": "24h", "90m": "1h30m", "20m": "20m", "10m30s": "10m30s", "1h0m10s": "1h0m10s", "100s": "1m40s", "1.5s": "1.5s", "100h": "100h",
	} {
		var d cli.Duration
		if err := d.Set(text); err != nil || d.String() != want {
			t.Errorf("%s: got %s, %v; want %s", text, d, err, want)
		}
		var again cli.Duration
		if err := again.Set(d.String()); err != nil || again != d {
			t.Errorf("%s, read again: got %s, %v; want the same", d, again, err)
		}
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	words := []string{"list", "revoke", "create", "token-rotate", "--environment", "wait"}
	for word, want := range map[string]string{
		"lst": "list", "LIST": "list", "tsil": "", "crate": "create", "rev": "revoke", "r": "", "rotate": "token-rotate", "listing": "list", "wiat": "wait",
		"--env": "--environment", "--enviroment": "--environment", "--": "", "": "", "xyzzy": "",
	} {
		if got := cli.Nearest(word, words); got != want {
			t.Errorf("%q: got %q; want %q", word, got, want)
		}
	}
}

// Whatever is printed, nothing reaches the terminal but what can be seen.
func FuzzPrint(f *testing.F) {
	f.Add("a\x1b[31mb\u202ec\u200bd\u2028e\x9bf\r\ng\U000E0041h\xff\t")
	f.Fuzz(func(t *testing.T, s string) {
		var out, errs bytes.Buffer
		c := cli.Console{Out: &out, Err: &errs}
		c.Say("%s", s)
		err := errors.Join(c.Println(s), c.JSON(map[string]string{"s": s}), c.Table([][]string{{s, s}}), c.Print(s))
		if err != nil {
			t.Fatal(err)
		}
		text := out.String() + errs.String()
		for _, r := range text {
			if r != '\n' && !unicode.IsGraphic(r) {
				t.Fatalf("%q lets %U through", s, r)
			}
		}
		if !utf8.ValidString(text) || strings.Count(errs.String(), "\n") != 1 {
			t.Errorf("%q became %q", s, text)
		}
		out.Reset()
		var back map[string]string
		if err := c.JSON(map[string]string{"s": s}); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out.Bytes(), &back); err != nil || back["s"] != strings.ToValidUTF8(s, "\uFFFD") && utf8.ValidString(s) {
			t.Errorf("JSON of %q: got %q, %v", s, back["s"], err)
		}
	})
}
