package parsing_test

import (
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// withBranches parses the settings of an app with these allowed branches.
func withBranches(t *testing.T, globs string) (approvals.Policy, []string) {
	t.Helper()
	s, faults := approvals.ParseSettings(append(slices.Clone(shop), "RGW_APP_SHOP_SETTING_ALLOWED_BRANCHES="+globs), defaultChannel)
	p, err := s.Lookup("shop", "")
	if err != nil {
		t.Fatal(err)
	}
	return p, faults
}

func TestAllowedBranchesThatCanMatchNothing(t *testing.T) {
	for _, c := range []struct{ globs, want string }{
		{"release/**", "release/* for one level and release/*/* for two"},
		{"**", "release/* for one level"},
		{"**/main", "release/* for one level"},
		{"main,tag:v**", "release/* for one level"},
		{"/main/", "a regular expression: write globs"},
		{`/release\/.*/`, "a regular expression"},
		{"^main$", "a regular expression"},
		{"tag:^v", "a regular expression"},
		{"release/.*", "a regular expression"},
		{".+", "a regular expression"},
		{`release-\d+`, "a regular expression"},
		{"tag:v[0-9]+", "a regular expression"},
		{"v[0-9]{2}", "a regular expression"},
		{"main|develop", "write a,b as two entries"},
		{"(main|develop)", "write a,b as two entries"},
		{"{main,develop}", "write a,b as two entries"},
		{"release/{a,b}-x", "write a,b as two entries"},
		{"x,tag:v{1,2}.*", "write a,b as two entries"},
		{"!main", "nothing can be excluded"},
		{"tag:!v1", "nothing can be excluded"},
		{"release/[!x]*", "write [^…]"},
		{"refs/heads/main", "write the name alone, such as main"},
		{"refs/heads/*", "write the name alone"},
		{"refs/tags/v*", "tag:v1"},
		{"tag:refs/tags/v*", "tag:v1"},
		{"refs/remotes/origin/main", "write the name alone"},
		{"tags:v*", "tag:v*"},
		{"Tag:v1", "tag:v*"},
		{"branch:main", "tag:v*"},
		{"tag:tag:v1", "tag:v*"},
		{"main release/*", "separate the entries by commas"},
		{"main\ndevelop", "separate the entries by commas"},
		{"tag: v*", "separate the entries by commas"},
		{"release/", "write release/* for every branch below release"},
		{"/release", "write release/*"},
		{"/", "write release/*"},
		{"release/*/", "write release/*"},
		{"tag:", "such as main,release/*,tag:v*"},
		{`main,"develop"`, "in quotes"},
		{`tag:'v*'`, "in quotes"},
		{"a..b", "that git allows"},
		{"*..", "that git allows"},
		{"a//b", "that git allows"},
		{"main.", "that git allows"},
		{".github", "that git allows"},
		{"a/.b*", "that git allows"},
		{"*.lock", "that git allows"},
		{"x.lock/*", "that git allows"},
		{"head@{1}", "that git allows"},
		{"@", "that git allows"},
		{"main~1", "that git allows"},
		{`a\*b`, "that git allows"},
		{`a\\b`, "that git allows"},
		{"a\x7f", "that git allows"},
	} {
		_, faults := withBranches(t, c.globs)
		if len(faults) != 1 || !strings.HasPrefix(faults[0], "RGW_APP_SHOP_SETTING_ALLOWED_BRANCHES: ") || !strings.Contains(faults[0], c.want) {
			t.Errorf("%q: got faults %q; want one with %q", c.globs, faults, c.want)
		}
	}
}

// What git allows can be written, most of it as it is.
func TestAllowedBranchesTakeEveryNameOfABranch(t *testing.T) {
	for glob, name := range map[string]string{
		"main": "main", "release/*": "release/1.2", "release/*/*": "release/a/b", "*": "main", "v?.?": "v1.2", "[a-z]*": "main", "[^a-z]*": "1",
		"feature/JIRA-1_x": "", "origin/main": "", "heads/main": "", "refs/x": "", "tags/v1": "", "pull/77": "", "main$": "", "(x)": "", "a+b": "", "c++": "",
		"dependabot/npm/@types/node-1.0": "", "user@host": "", "@x": "", "x{y}": "", "x{y": "", "{main}": "", "a!b": "", "a#b": "", "50%": "", "a;b": "", "a&b": "",
		`a"b"`: "", "it's": "", "-x": "", "a.b": "", "a.locks": "", "é/ü": "", "日本": "", "=": "", "<x>": "", "v.*": "v.1", "x.*.y": "x.1.y",
		`\!main`: "!main", "[!]main": "!main", `a\|b`: "a|b", "a[|]b": "a|b", "a?b": "a|b", `\"x\"`: `"x"`, `refs\/heads/main`: "refs/heads/main", `\{x\}`: "{x}", "release-[0-9]*": "release-1",
	} {
		if name == "" {
			name = glob
		}
		if p, faults := withBranches(t, glob); len(faults) > 0 || !p.AllowsRef(name, "") || p.AllowsRef("", name) {
			t.Errorf("%q: got faults %q; want it to match the branch %q", glob, faults, name)
		}
		if p, faults := withBranches(t, "tag:"+glob); len(faults) > 0 || !p.AllowsRef("", name) || p.AllowsRef(name, "") {
			t.Errorf("tag:%q: got faults %q; want it to match the tag %q", glob, faults, name)
		}
	}
}

// gitForbids is the reference for FuzzAllowedBranches, written rule by rule after
// git-check-ref-format(1).
func gitForbids(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part[0] == '.' || strings.HasSuffix(part, ".lock") {
			return true
		}
	}
	return name == "@" || strings.HasSuffix(name, ".") || strings.Contains(name, "..") || strings.Contains(name, "@{") ||
		strings.ContainsAny(name, " ~^:?*[\\\x7f") || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' })
}

// Every name that git allows can be allowed, and a glob of which it is said that
// it matches no name does match none.
func FuzzAllowedBranches(f *testing.F) {
	for _, s := range []string{"main", "a|b", "!a", "refs/heads/x", "x.loc", "@", "@x", ".a", "a.", "a..b", "{a}", "é", "\"a\"", "tag"} {
		f.Add(s, "*"+s)
		f.Add(s, s+"?.lock")
		f.Add(s, "[^"+s+"]/.*")
	}
	punctuation := regexp.MustCompile(`[^A-Za-z0-9]`)
	f.Fuzz(func(t *testing.T, name, glob string) {
		if gitForbids(name) || strings.TrimSpace(name) != name || strings.Contains(name, "\ufeff") {
			return
		}
		if _, faults := withBranches(t, glob); len(faults) > 0 && strings.Contains(faults[0], "that git allows") && !strings.Contains(glob, ",") {
			if matched, err := path.Match(strings.TrimPrefix(strings.TrimSpace(glob), "tag:"), name); err == nil && matched {
				t.Errorf("%q is refused, yet matches %q", glob, name)
			}
		}
		if strings.Contains(name, ",") {
			return // a list cannot hold it
		}
		escaped := punctuation.ReplaceAllString(name, `\$0`)
		if p, faults := withBranches(t, escaped); len(faults) > 0 || !p.AllowsRef(name, "") {
			t.Errorf("the name %q, written %q: got faults %q; want it allowed", name, escaped, faults)
		}
	})
}

// What the tests take for git's rules are git's rules.
func TestGitAgreesOnNames(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("git is not here")
	}
	for _, name := range []string{"main", "a/b", "a..b", ".a", "a/.b", "a.lock", "a.lock/b", "a.locks", "a.", "@", "@x", "a@{b", "{a}", "a|b", "!a", "a$", "a b", "a~", "a^", "a:", "a?", "a*", "a[", "a]", "a\\", "/a", "a/", "a//b", "\"a\"", "a,b", "é", "a\x7f", "a\tb"} {
		err := exec.CommandContext(t.Context(), git, "check-ref-format", "refs/heads/"+name).Run()
		// As a part of a longer name @ is allowed; alone it is not.
		if allowed := err == nil && name != "@"; allowed == gitForbids(name) {
			t.Errorf("%q: git allows it: %t; want the opposite of %t", name, allowed, gitForbids(name))
		}
	}
}
