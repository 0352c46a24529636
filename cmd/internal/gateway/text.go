package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// clean makes text fit for a terminal and for one line of a log: controls and
// invisible marks (line ends, escapes, bidi, zero width) show as escapes.
func clean(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !validRuneAt(s, i):
			b.WriteRune(utf8.RuneError)
		case invisible(r):
			b.WriteString(escape(r))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// validRuneAt tells a real U+FFFD from a byte that is not UTF-8.
func validRuneAt(s string, i int) bool { return strings.HasPrefix(s[i:], "\uFFFD") }

// invisible reports what can move a cursor, change colours or reorder text:
// controls, formats, private use, line and paragraph separators.
func invisible(r rune) bool {
	return unicode.In(r, unicode.C, unicode.Zl, unicode.Zp)
}

// escape spells a rune as JSON does.
func escape(r rune) string {
	if r > 0xFFFF {
		r -= 0x10000
		return fmt.Sprintf(`\u%04x\u%04x`, 0xD800+r>>10, 0xDC00+r&0x3FF)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// cut shortens text to so many characters.
func cut(s string, most int) string {
	runes := []rune(s)
	if len(runes) <= most {
		return s
	}
	return string(runes[:most-1]) + "…"
}

// printJSON writes v to stdout, with everything invisible in its strings escaped.
func (c *cli) printJSON(v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	var out strings.Builder
	for _, r := range b.String() {
		// Outside of strings only line ends of these occur, and none within.
		if r != '\n' && invisible(r) {
			out.WriteString(escape(r))
		} else {
			out.WriteRune(r)
		}
	}
	return c.print(out.String())
}

// print writes a result, which the caller made fit for a terminal.
func (c *cli) print(text string) error {
	if _, err := fmt.Fprint(c.stdout, text); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}

func clock(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}
