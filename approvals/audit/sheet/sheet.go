// Package sheet writes CSV (RFC 4180, UTF-8) that is safe to open in a
// spreadsheet: no cell is taken for a formula, none holds a control character.
//
// The package does not read CSV. What it writes for text that looks like a
// formula is not what went in: it is for people, evidence is the log.
package sheet

import (
	"encoding/csv"
	"io"
	"strings"
	"time"
	"unicode"
)

// Writer writes rows. Nothing reaches the underlying writer before Flush or
// before some kilobytes have come together.
type Writer struct{ csv *csv.Writer }

// NewWriter makes a writer.
func NewWriter(w io.Writer) *Writer { return &Writer{csv.NewWriter(w)} }

// Row writes one row, each cell as [Cell] gives it.
func (w *Writer) Row(cells ...string) error {
	safe := make([]string, len(cells))
	for i, c := range cells {
		safe[i] = Cell(c)
	}
	return w.csv.Write(safe)
}

// Flush hands all rows over.
func (w *Writer) Flush() error {
	w.csv.Flush()
	return w.csv.Error()
}

// Cell makes text fit for a cell. Line breaks and tabs become spaces; other
// characters that steer instead of show, such as bidi marks, become U+FFFD. An
// apostrophe goes before what would begin a formula, also behind leading blanks
// and behind a semicolon, which separates cells where the comma is the decimal
// sign (https://owasp.org/www-community/attacks/CSV_Injection).
func Cell(s string) string {
	var b strings.Builder
	begins := true
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		switch {
		case r == '\t' || r == '\n' || r == '\r' || r == '\u2028' || r == '\u2029' || r == '\u0085':
			r = ' '
		case unicode.In(r, unicode.Cc, unicode.Cf):
			r = unicode.ReplacementChar
		}
		if begins && formula(r) {
			b.WriteByte('\'')
		}
		begins = r == ';' || begins && (unicode.IsSpace(r) || r == '"')
		b.WriteRune(r)
	}
	return b.String()
}

// Time shows a time so that spreadsheets take it for one, in UTC, which the heading
// of the column should say; nothing for the zero time. What RFC 3339 puts between
// and behind date and time makes it a text for them.
func Time(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.DateTime)
}

// formula reports whether a spreadsheet takes what begins with r for a formula.
// The wide forms count for some East Asian ones.
func formula(r rune) bool { return strings.ContainsRune("=+-@＝＋－＠", r) }
