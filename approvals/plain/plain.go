// Package plain shows text from outside so that nothing in it is hidden. A message or
// a reason may use the invisible joiners that its emoji and its script need. In a name
// that somebody decides by, such as a branch or a login, they are shown as well.
package plain

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Visible shows all that could hide or turn text around, and keeps line breaks.
func Visible(text string) string { return show(text, false) }

// Name is a name on one line, with each invisible character and each unusual blank
// shown; nothing at all shows as "–".
func Name(name string) string { return onOneLine(show(name, true)) }

// OneLine is Visible on one line; nothing at all shows as "–".
func OneLine(text string) string { return onOneLine(Visible(text)) }

// Cut shortens to at most n characters, the last of them an ellipsis.
func Cut(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return strings.TrimRight(string([]rune(text)[:n-1]), " \n\u200c\u200d") + "…"
}

// Line has a text on one line of at most n characters, with one blank for control
// characters and blanks that follow each other.
func Line(text string, n int) string {
	blank := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }
	return Cut(strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "\uFFFD"), blank), " "), n)
}

// Duration is a duration as people write it, without minutes and seconds at the end
// that are 0: 24h, not 24h0m0s. [time.ParseDuration] reads it.
func Duration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func onOneLine(text string) string {
	if text = strings.Join(strings.Fields(text), " "); text == "" {
		return "–"
	}
	return text
}

// maxMarks is how many accents may stand on one letter. More of them would reach the
// lines above and below.
const maxMarks = 4

func show(text string, name bool) string {
	var b strings.Builder
	runes := []rune(strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\r\n", "\n"))
	marks := 0
	for i, r := range runes {
		if marks++; !unicode.Is(unicode.M, r) {
			marks = 0
		}
		switch {
		case r == '\n':
			b.WriteRune(r)
		case r == '\t':
			b.WriteRune(' ')
		case r < 0x20:
			b.WriteRune(0x2400 + r) // control pictures
		case r == 0x7f:
			b.WriteRune('\u2421')
		case invisible(r) && (name || !joins(runes, i)), name && r != ' ' && unicode.Is(unicode.Zs, r), marks > maxMarks:
			fmt.Fprintf(&b, "‹U+%04X›", r)
		default:
			b.WriteRune(r)
		}
	}
	return strings.TrimSpace(b.String())
}

// invisible reports whether r shows nothing by itself.
func invisible(r rune) bool {
	return r == 0x2800 || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Zl, unicode.Zp,
		unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector, unicode.Noncharacter_Code_Point)
}

// joins reports whether the invisible character at i is one that its neighbours need:
// U+FE0F and U+200D between the parts of an emoji, U+200C and U+200D between letters
// of the scripts that are written with them.
func joins(text []rune, i int) bool {
	around := func(d int) rune {
		if i+d < 0 || i+d >= len(text) {
			return 0
		}
		return text[i+d]
	}
	before, after := around(-1), around(1)
	switch text[i] {
	case 0xfe0f:
		return emoji(before) || after == 0x20e3 && strings.ContainsRune("#*0123456789", before)
	case 0x200d:
		return emoji(after) && (emoji(before) || before == 0xfe0f && emoji(around(-2))) || joined(before) && joined(after)
	case 0x200c:
		return joined(before) && joined(after)
	}
	return false
}

func emoji(r rune) bool {
	return r > 0x7f && (unicode.In(r, unicode.So, unicode.Sm) || r >= 0x1f3fb && r <= 0x1f3ff || r == '‼' || r == '⁉')
}

func joined(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M) && unicode.In(r, unicode.Arabic, unicode.Bengali, unicode.Devanagari, unicode.Gujarati, unicode.Gurmukhi,
		unicode.Kannada, unicode.Khmer, unicode.Malayalam, unicode.Mongolian, unicode.Myanmar, unicode.Oriya, unicode.Sinhala, unicode.Syriac, unicode.Tamil, unicode.Telugu)
}

const redacted = "REDACTED"

// Redacted is embedded in types whose value must never be written anywhere by
// accident: they print, log and marshal as REDACTED. The types keep their value inside
// a function, or behind a pointer, besides: fmt cannot call methods on unexported
// fields of a surrounding struct, and prints what it finds there.
type Redacted struct{}

func (Redacted) String() string               { return redacted }
func (Redacted) GoString() string             { return redacted }
func (Redacted) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (Redacted) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (Redacted) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (Redacted) LogValue() slog.Value         { return slog.StringValue(redacted) }
