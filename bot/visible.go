package bot

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Text from outside is shown so that nothing in it is hidden. A message or a reason
// may use the invisible joiners that its emoji and its script need. In a name that
// somebody decides by, such as a branch or a login, they are shown as well.

// visible shows all that could hide or turn text around, and keeps line breaks.
func visible(text string) string { return show(text, false) }

// bare is a name on one line, with each invisible character and each unusual blank shown.
func bare(name string) string { return onOneLine(show(name, true)) }

// oneLine is visible on one line; nothing at all shows as "–".
func oneLine(text string) string { return onOneLine(visible(text)) }

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
		if emoji(after) && (emoji(before) || before == 0xfe0f && emoji(around(-2))) {
			return true
		}
		return joined(before) && joined(after)
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

// maxListed is how many look-alikes a remark lists.
const maxListed = 3

// remark points out the characters of a name that look like others; nil if there are none.
func remark(name string) line {
	found := lookalikes(name)
	if len(found) == 0 {
		return nil
	}
	var codes []string
	for _, r := range found[:min(len(found), maxListed)] {
		codes = append(codes, fmt.Sprintf("U+%04X", r))
	}
	if len(found) > maxListed {
		codes = append(codes, "…")
	}
	return say(" (contains characters that look like others: ", strings.Join(codes, ", "), ")")
}

// lookalikes lists the characters of a name that can be taken for others, once each.
// Each word is judged alone: feature/исправить deceives nobody, mаin with a Cyrillic а does.
func lookalikes(name string) []rune {
	var found []rune
	for _, r := range name {
		// Accents of their own (i and U+0307), dashes, slashes and dots, digits. The
		// punctuation of Chinese and Japanese has its own block.
		if r > 0x7f && unicode.In(r, unicode.P, unicode.Sm, unicode.Sk, unicode.N) && !within(r, 0x3000, 0x30ff) || within(r, 0x300, 0x36f) {
			found = append(found, r)
		}
	}
	for _, word := range strings.FieldsFunc(name, func(r rune) bool { return !unicode.In(r, unicode.L, unicode.M, unicode.N) }) {
		latin := strings.ContainsFunc(word, func(r rune) bool { return unicode.Is(unicode.Latin, r) })
		readable := strings.ContainsFunc(word, func(r rune) bool { return unicode.IsLetter(r) && !unicode.Is(unicode.Latin, r) && !alike(r) })
		for _, r := range word {
			switch {
			case r <= 0x7f || !unicode.IsLetter(r) || unicode.In(r, besideLatin...) || within(r, 0x3000, 0x30ff):
			case unicode.Is(unicode.Latin, r) && alike(r), !unicode.Is(unicode.Latin, r) && (latin || !readable):
				found = append(found, r)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func within(r, first, last rune) bool { return r >= first && r <= last }

var (
	// besideLatin are the scripts whose words hold Latin letters every day.
	besideLatin = []*unicode.RangeTable{unicode.Bopomofo, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana}

	// everyday are the other scripts that names are written in today.
	// Source: https://www.unicode.org/reports/tr31/#Table_Recommended_Scripts
	everyday = []*unicode.RangeTable{
		unicode.Arabic, unicode.Armenian, unicode.Bengali, unicode.Cyrillic, unicode.Devanagari, unicode.Ethiopic, unicode.Georgian, unicode.Greek,
		unicode.Gujarati, unicode.Gurmukhi, unicode.Hebrew, unicode.Kannada, unicode.Khmer, unicode.Lao, unicode.Malayalam, unicode.Myanmar,
		unicode.Oriya, unicode.Sinhala, unicode.Tamil, unicode.Telugu, unicode.Thaana, unicode.Thai, unicode.Tibetan,
	}
)

// twins are letters of everyday scripts that look like one of ASCII.
// Source: https://www.unicode.org/Public/security/latest/confusables.txt
const twins = "ıſƅƽǀǁǃ" + // Latin
	"аеорсухіјѕһԁԛԝүѵьӏгАВЕКМНОРСТХУІЈЅԌԚԜҮѴЬӀЗб" + // Cyrillic
	"οναικρτυχωγηΑΒΕΖΗΙΚΜΝΟΡΤΥΧϲϳϹ" + // Greek
	"ոօսհցգզքալղՕՏԼՍ" + // Armenian
	"וןסاهہه" // Hebrew, Arabic

// alike reports whether a letter can be taken for one of ASCII: it has a twin there, or
// it is of a script or block that nobody writes names in, such as phonetic, fullwidth
// and mathematical letters.
func alike(r rune) bool {
	switch {
	case r <= 0x7f:
		return false
	case strings.ContainsRune(twins, r):
		return true
	case unicode.Is(unicode.Latin, r):
		return r > 0x24f && !within(r, 0x1e00, 0x1eff)
	}
	return !unicode.In(r, everyday...)
}
