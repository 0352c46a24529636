package layout_test

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// mostReadme is how many bytes the README at the top may have: it is read by
// everybody, and the chapters have their own pages.
const mostReadme = 12 << 10

var (
	fence   = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	code    = regexp.MustCompile("`[^`\n]*`")
	heading = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	mdLink  = regexp.MustCompile(`\]\(([^()\s]+)\)`)
)

// pages returns the Markdown pages of the repository by their paths.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	root := os.DirFS("../../..")
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name == ".git":
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".md":
			return nil
		}
		text, err := fs.ReadFile(root, name)
		found[name] = fence.ReplaceAllString(string(text), "")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// anchors are the ids that GitHub gives to the headings of a page.
func anchors(text string) map[string]bool {
	all := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		id := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, m[1])
		unique := id
		for n := 1; all[unique]; n++ {
			unique = fmt.Sprintf("%s-%d", id, n)
		}
		all[unique] = true
	}
	return all
}

// TestLinksOfPages follows every link from page to page, to its heading or file.
func TestLinksOfPages(t *testing.T) {
	t.Parallel()
	all, followed := pages(t), 0
	for name, text := range all {
		for _, m := range mdLink.FindAllStringSubmatch(code.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			followed++
			file, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if file != "" {
				target = path.Join(path.Dir(name), file)
			}
			if _, err := os.Stat("../../../" + target); err != nil {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			} else if anchor != "" && !anchors(all[target])[anchor] {
				t.Errorf("%s links to %s, and the page has no such heading", name, m[1])
			}
		}
	}
	if followed < 50 {
		t.Errorf("got %d links; want those of all pages", followed)
	}
}

// TestReadmeLeadsToEveryPage keeps the README at the top short and complete: every
// other page is in its table.
func TestReadmeLeadsToEveryPage(t *testing.T) {
	t.Parallel()
	if file, err := os.Stat("../../../README.md"); err != nil || file.Size() > mostReadme {
		t.Errorf("the README at the top: got %d bytes, %v; want %d at most", file.Size(), err, mostReadme)
	}
	all := pages(t)
	_, table, _ := strings.Cut(all["README.md"], "\n## Where to read on\n")
	for name := range all {
		if name != "README.md" && !strings.Contains(table, "("+name+")") {
			t.Errorf("%s is not in the table of the README", name)
		}
	}
}
