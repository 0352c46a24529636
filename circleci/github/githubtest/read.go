package githubtest

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

var errNotFound = errors.New("not found")

// read answers one route below a repository: JSON, or the bytes of a file.
func (r *repo) read(kind, rest string, req *http.Request) (body any, raw []byte, err error) {
	switch {
	case rest == "" && (kind == "commits" || kind == "pulls"):
		body = []any{} // what they list is of no use here
	case kind == "commits" && strings.HasSuffix(rest, "/pulls"):
		body, err = r.pullsOf(strings.TrimSuffix(rest, "/pulls"))
	case kind == "commits":
		c := r.commits[rest]
		if c == nil {
			return nil, nil, errNotFound
		}
		body = c.wire()
	case kind == "compare":
		body, err = r.compare(rest, req)
	case kind == "pulls" && strings.HasSuffix(rest, "/reviews"):
		body, err = r.reviews(strings.TrimSuffix(rest, "/reviews"), req)
	case kind == "contents":
		if raw, err = r.file(rest, req); err != nil {
			body, err = r.directory(rest, req)
		}
	default:
		err = errNotFound
	}
	return body, raw, err
}

func (c *Commit) wire() map[string]any {
	out := map[string]any{
		"sha": c.SHA, "author": nil, "committer": nil,
		"commit": map[string]any{"message": c.Message, "author": map[string]any{"name": c.Author, "email": "someone@example.org"}},
	}
	if c.Login != "" {
		out["author"] = map[string]any{"login": c.Login, "id": 1}
	}
	return out
}

// line lists a commit and those before it, newest first.
func (r *repo) line(sha string) []string {
	var out []string
	for c := r.commits[sha]; c != nil; c = r.commits[c.Parent] {
		out = append(out, c.SHA)
	}
	return out
}

// compare lists what head has and base has not, oldest first, page by page. The changed files come with the first page.
func (r *repo) compare(rest string, req *http.Request) (any, error) {
	base, head, ok := strings.Cut(rest, "...")
	if !ok || r.commits[base] == nil || r.commits[head] == nil {
		return nil, errNotFound
	}
	from, to := r.line(base), r.line(head)
	news := slices.DeleteFunc(slices.Clone(to), contains(from))
	lost := slices.DeleteFunc(slices.Clone(from), contains(to))
	slices.Reverse(news)
	status := "identical"
	switch {
	case len(news) > 0 && len(lost) > 0:
		status = "diverged"
	case len(news) > 0:
		status = "ahead"
	case len(lost) > 0:
		status = "behind"
	}
	first, last, page := window(req, len(news))
	commits := []any{}
	for _, sha := range news[first:last] {
		commits = append(commits, r.commits[sha].wire())
	}
	out := map[string]any{
		"url": "https://api.github.com/compare", "status": status, "ahead_by": len(news), "behind_by": len(lost), "total_commits": len(news), "commits": commits,
	}
	if page == 1 {
		out["files"] = []any{map[string]any{"filename": "big.txt", "patch": strings.Repeat("+x\n", 1000)}}
	}
	return out, nil
}

func contains(in []string) func(string) bool {
	set := map[string]bool{}
	for _, s := range in {
		set[s] = true
	}
	return func(s string) bool { return set[s] }
}

// window is the part of a list that a page has. A page has at most 100 items, and 30 when nothing is said.
func window(req *http.Request, n int) (first, last, page int) {
	number := func(name string, fallback int) int {
		if v, err := strconv.Atoi(req.URL.Query().Get(name)); err == nil && v > 0 {
			return v
		}
		return fallback
	}
	size := min(number("per_page", 30), 100)
	page = number("page", 1)
	first = min((page-1)*size, n)
	return first, min(first+size, n), page
}

func (r *repo) pullsOf(sha string) (any, error) {
	if r.commits[sha] == nil {
		return nil, errNotFound
	}
	out := []any{}
	for _, p := range r.pulls {
		if !slices.Contains(p.Commits, sha) {
			continue
		}
		wire := map[string]any{"number": p.Number, "title": p.Title, "state": "open", "merged_at": nil}
		if p.Merged {
			wire["state"], wire["merged_at"] = "closed", "2026-11-23T09:00:00Z"
		}
		out = append(out, wire)
	}
	return out, nil
}

func (r *repo) reviews(number string, req *http.Request) (any, error) {
	i := slices.IndexFunc(r.pulls, func(p Pull) bool { return strconv.Itoa(p.Number) == number })
	if i < 0 {
		return nil, errNotFound
	}
	all := r.pulls[i].Reviews
	first, last, _ := window(req, len(all))
	out := []any{}
	for _, v := range all[first:last] {
		out = append(out, map[string]any{"state": v.State, "user": map[string]any{"login": v.Login}})
	}
	return out, nil
}

// file is a file as it is in a commit.
func (r *repo) file(path string, req *http.Request) ([]byte, error) {
	if r.commits[req.URL.Query().Get("ref")] == nil || req.Header.Get("Accept") != "application/vnd.github.raw+json" {
		return nil, errNotFound
	}
	for _, sha := range r.line(req.URL.Query().Get("ref")) {
		if text, ok := r.commits[sha].Files[path]; ok {
			return []byte(text), nil
		}
	}
	return nil, errNotFound
}

// directory lists the files of a directory, as JSON whatever was asked for.
func (r *repo) directory(path string, req *http.Request) (any, error) {
	found := []any{}
	for _, sha := range r.line(req.URL.Query().Get("ref")) {
		for name := range r.commits[sha].Files {
			if rest, inside := strings.CutPrefix(name, path+"/"); inside && !strings.Contains(rest, "/") {
				found = append(found, map[string]any{"type": "file", "name": rest, "path": name})
			}
		}
	}
	if len(found) == 0 {
		return nil, errNotFound
	}
	return found, nil
}
