package circleci_test

import (
	"strings"
	"testing"

	"github.com/rack-gateway/rack-gateway-approvals/circleci"
)

func TestNormalizeSlug(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, want string }{ // empty = refused
		{"gh/MyOrg/myapp", "gh/MyOrg/myapp"},
		{"github/MyOrg/my.app_1-x", "gh/MyOrg/my.app_1-x"},
		{"bitbucket/ws/repo", "bb/ws/repo"},
		{"bb/ws/repo", "bb/ws/repo"},
		{"circleci/4tXrW/9pLkQ", "circleci/4tXrW/9pLkQ"},
		{"circleci/5034460f-c7c4-4c43-9457-de07e2029e7b/x", "circleci/5034460f-c7c4-4c43-9457-de07e2029e7b/x"},
		{"", ""},
		{"gh/MyOrg", ""},
		{"gh/MyOrg/myapp/x", ""},
		{"gitlab/MyOrg/myapp", ""},
		{"GH/MyOrg/myapp", ""},
		{"gh//myapp", ""},
		{"gh/../me", ""},
		{"gh/MyOrg/.", ""},
		{"gh/My Org/myapp", ""},
		{"gh/MyOrg/myapp\n", ""},
		{"gh/MyOrg/my%2Fapp", ""},
		{"gh/MyOrg/myäpp", ""},
		{"gh/MyOrg/" + strings.Repeat("x", 101), ""},
	} {
		got, err := circleci.NormalizeSlug(tt.in)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("NormalizeSlug(%q): got %q, %v; want %q", tt.in, got, err, tt.want)
		}
	}
}

func TestSameSlug(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"gh/MyOrg/myapp", "github/myorg/MyApp", true},
		{"bb/ws/repo", "bitbucket/WS/repo", true},
		{"gh/MyOrg/myapp", "bb/MyOrg/myapp", false},
		{"gh/MyOrg/myapp", "gh/MyOrg/myapp2", false},
		{"circleci/aB/cD", "circleci/aB/cD", true},
		{"circleci/aB/cD", "circleci/ab/cd", false},
		{"", "", false},
		{"x", "x", false},
	} {
		if got := circleci.SameSlug(tt.a, tt.b); got != tt.want {
			t.Errorf("SameSlug(%q, %q): got %v; want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestLinks(t *testing.T) {
	t.Parallel()
	own := circleci.Links{AppURL: "https://ci.example/"}
	for _, tt := range []struct{ got, want string }{
		{circleci.Links{}.PipelineURL("gh/MyOrg/myapp", 1234), "https://app.circleci.com/pipelines/gh/MyOrg/myapp/1234"},
		{own.PipelineURL("bitbucket/ws/repo", 1), "https://ci.example/pipelines/bb/ws/repo/1"},
		{own.WorkflowURL("circleci/aB/cD", 7, someID), "https://ci.example/pipelines/circleci/aB/cD/7/workflows/" + someID},
		{own.PipelineURL("evil", 1), ""},
		{own.PipelineURL("gh/MyOrg/myapp", 0), ""},
		{own.WorkflowURL("gh/MyOrg/myapp", 7, "../../x"), ""},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q; want %q", tt.got, tt.want)
		}
	}
	c, err := circleci.New(circleci.Config{Token: "t", AppURL: "https://ci.example"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.Links().PipelineURL("gh/a/b", 2), "https://ci.example/pipelines/gh/a/b/2"; got != want {
		t.Errorf("got %q; want %q", got, want)
	}
}

func FuzzSlug(f *testing.F) {
	for _, s := range []string{"gh/MyOrg/myapp", "github/a/b", "circleci/x/y", "gh/../..", "gh/a/b?c", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := circleci.NormalizeSlug(s)
		if err != nil {
			if circleci.SameSlug(s, s) || (circleci.Links{}).PipelineURL(s, 1) != "" {
				t.Errorf("%q is refused, yet is the same or has a link", s)
			}
			return
		}
		if again, err := circleci.NormalizeSlug(got); err != nil || again != got {
			t.Errorf("NormalizeSlug(%q): got %q, %v; want it unchanged", got, again, err)
		}
		if !circleci.SameSlug(s, got) {
			t.Errorf("%q and %q: got not the same; want the same", s, got)
		}
		if strings.ContainsAny(got, "\\?#% \n") || strings.Contains(got+"/", "/../") {
			t.Errorf("got %q; want nothing that changes a path", got)
		}
	})
}
