package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf16"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rack-gateway/rack-gateway-approvals/approvals/audit/sheet"
)

// Console is where a program reads and writes. Its methods make text safe for a
// terminal; what must stay as it is, byte for byte, is written to Out itself.
type Console struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// IsTerminal reports whether a stream is a terminal.
func IsTerminal(stream any) bool {
	if i, ok := stream.(*input); ok {
		stream = i.from
	}
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Say prints one line for people, to stderr.
func (c *Console) Say(format string, args ...any) {
	fmt.Fprintln(c.Err, Clean(fmt.Sprintf(format, args...)))
}

// Print prints a result of one or more lines.
func (c *Console) Print(text string) error {
	if _, err := io.WriteString(c.Out, visible(text, "\n")); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// Println prints a result of one line.
func (c *Console) Println(text string) error { return c.Print(Clean(text) + "\n") }

// JSON prints a result as JSON.
func (c *Console) JSON(v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("encode the result: %w", err)
	}
	return c.Print(b.String())
}

// Table prints rows, the first of which is the heading, as columns.
func (c *Console) Table(rows [][]string) error {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			if cells[i] = Clean(cell); cell == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	w.Flush() // into memory
	return c.Print(b.String())
}

// Format is a form of a result.
type Format string

// The forms of results.
const (
	Text Format = "text"
	CSV  Format = "csv"
	JSON Format = "json"
)

// FormatFlag adds -o, whose default is text. A command with a sheet has CSV, too.
func FormatFlag(cmd *cobra.Command, f *Format, more ...Format) {
	*f = Text
	Choice(cmd, f, "output", "o", "form of the result", append([]Format{Text, JSON}, more...)...)
}

// Result is what a command found, in each form that it can be printed in.
type Result struct {
	JSON   any
	Text   string
	Tables [][][]string // below the text; the first row of each is its heading
	Sheet  [][]string   // all tables in one, for CSV
}

// Show prints a result in a form.
func (c *Console) Show(f Format, r Result) error {
	switch f {
	case JSON:
		return c.JSON(r.JSON)
	case CSV:
		w := sheet.NewWriter(c.Out)
		for _, row := range r.Sheet {
			if err := w.Row(row...); err != nil {
				return err
			}
		}
		return w.Flush()
	}
	if err := c.Print(r.Text); err != nil {
		return err
	}
	for i, table := range r.Tables {
		if i > 0 || r.Text != "" {
			fmt.Fprintln(c.Out)
		}
		if err := c.Table(table); err != nil {
			return err
		}
	}
	return nil
}

// Clean makes text fit for one line of a terminal or a log: what is not shown but
// acts or reorders text (controls, line ends, escapes, bidi marks, zero width)
// becomes an escape as in JSON.
func Clean(s string) string { return visible(s, "") }

func visible(s, kept string) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		switch {
		case unicode.IsGraphic(r) || strings.ContainsRune(kept, r):
			b.WriteRune(r)
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
