package bot

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

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
