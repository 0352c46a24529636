package cli

import "strings"

// DidYouMean ends an error about a word that is none of some: it asks for the
// nearest of them, or is empty.
func DidYouMean(word string, among []string) string {
	if meant := Nearest(word, among); meant != "" {
		return "; did you mean " + meant + "?"
	}
	return ""
}

// Nearest finds the candidate that a word was probably meant to be: the one that
// takes the fewest changes, at most two or one in three letters, or else one that
// begins or ends with the word, or begins it. Of two that are as near, the one with
// the same first letter is meant, because people rarely mistype that one. It is
// empty where nothing is near. Case does not count.
func Nearest(word string, candidates []string) string {
	word = strings.ToLower(word)
	bare := len(strings.TrimLeft(word, "-"))
	best, least := "", min(bare, max(2, bare/3)+1)
	for _, c := range candidates {
		low := strings.ToLower(c)
		d := distance(word, low)
		if d < least || d == least && best != "" && word[0] == low[0] && word[0] != best[0] {
			best, least = c, d
		}
	}
	for _, c := range candidates {
		low := strings.ToLower(c)
		if best == "" && bare >= 3 && (strings.HasPrefix(low, word) || strings.HasSuffix(low, word) || strings.HasPrefix(word, low)) {
			best = c
		}
	}
	return best
}

// distance is the Levenshtein distance: how many bytes must be put in, taken out
// or replaced to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1) // from what was read of a to each beginning of b
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
