package approvals

import (
	"errors"
	"path"
	"regexp"
	"strings"
)

// globsIn is a field that is written as a comma list of globs for branches and,
// behind "tag:", for tags. It is an error, which gives the right spelling, to
// write a glob that can match nothing, or one that was surely meant in the
// notation of another tool, although a branch could have that very name. Whoever
// has such a branch writes a backslash before the character in question.
func globsIn(at func(*Policy) *[]string) field {
	f := listIn(at, checkGlob)
	setList := f.set
	f.set = func(p *Policy, text string) error {
		// The comma is inside the braces, so this is seen in the whole list only.
		if braces.MatchString(escapes.ReplaceAllString(text, "x")) {
			return errors.New("has an entry with {a,b}: write a,b as two entries, such as release/a,release/b")
		}
		return setList(p, text)
	}
	return f
}

var (
	braces  = regexp.MustCompile(`\{[^{}]*,[^{}]*\}`)
	escapes = regexp.MustCompile(`(?s)\\.`)
	// special is what [path.Match] does not take literally.
	special = regexp.MustCompile(`(?s)\\.|\[(?:\\.|[^\]\\])*\]|[*?]`)
)

// spellings are the notations of other tools as they look in what shapeOf returns.
var spellings = []struct {
	look  *regexp.Regexp
	fault string
}{
	{regexp.MustCompile(`^/.*/$|\^|\\|\[\][+{]|(^|/)\.[*+]`), "has an entry that is a regular expression: write globs, such as main,release/*,tag:v*"},
	{regexp.MustCompile(`\[!\]`), "has an entry with [!…]: write [^…] for every character but these"},
	{regexp.MustCompile(`\*\*`), "has an entry with **: no * matches a slash, so write release/* for one level and release/*/* for two"},
	{regexp.MustCompile(`\|`), `has an entry with a|b: write a,b as two entries (or a\|b for a branch with this name)`},
	{regexp.MustCompile(`^!`), `has an entry that begins with !: nothing can be excluded, so list what is allowed (or write \!a for a branch with the name !a)`},
	{regexp.MustCompile(`^refs/(heads|remotes|tags)/`), "has an entry that begins with refs/: write the name alone, such as main for a branch and tag:v1 for a tag"},
	{regexp.MustCompile(`:`), "has an entry with a colon: there is one in tag:v* only, behind the word tag"},
	{regexp.MustCompile(`\s`), "has an entry with a blank: separate the entries by commas"},
	{regexp.MustCompile(`^/|/$`), "has an entry that begins or ends with a slash: write release/* for every branch below release"},
}

// checkGlob checks one entry of allowed_branches.
func checkGlob(entry string) (string, error) {
	glob := strings.TrimPrefix(entry, "tag:")
	if _, err := path.Match(glob, ""); err != nil || glob == "" {
		return "", errors.New("must be a comma list of globs such as main,release/*,tag:v*")
	}
	if _, err := CleanValue(glob); err != nil {
		return "", errors.New("has an entry in quotes: write it without them")
	}
	shape := shapeOf(glob)
	for _, s := range spellings {
		if s.look.MatchString(shape) {
			return "", errors.New(s.fault)
		}
	}
	if !validRef(exampleOf(glob)) {
		return "", errors.New("has an entry that matches no name of a branch or tag that git allows")
	}
	return entry, nil
}

// shapeOf returns a glob with only those characters that mean something: each
// class of characters is [] or, where it begins with ! and is longer, [!], and
// each character behind a backslash is x. A backslash stays before what needs
// none here but has a meaning in regular expressions, such as \d.
func shapeOf(glob string) string {
	return special.ReplaceAllStringFunc(glob, func(s string) string {
		switch {
		case s == "*" || s == "?":
			return s
		case s[0] == '\\' && regexpEscape.MatchString(s):
			return `\`
		case s[0] == '\\':
			return "x"
		case strings.HasPrefix(s, "[!") && s != "[!]":
			return "[!]"
		}
		return "[]"
	})
}

var regexpEscape = regexp.MustCompile(`^\\[A-Za-z0-9]`)

// exampleOf returns a name that matches a glob, with an x for each *, ? and class.
// What git forbids in it comes from the literal parts of the glob, so it is in
// every name that matches.
func exampleOf(glob string) string {
	return special.ReplaceAllStringFunc(glob, func(s string) string {
		if c, ok := strings.CutPrefix(s, `\`); ok {
			return c
		}
		return "x"
	})
}

// forbiddenInRef has what git allows in no name: see git-check-ref-format(1).
var forbiddenInRef = regexp.MustCompile(`[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^/|/$|\.$|(^|/)\.|\.lock(/|$)|^@$|^$`)

func validRef(name string) bool { return !forbiddenInRef.MatchString(name) }
