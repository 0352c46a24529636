package postgres

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestURL(t *testing.T) {
	certificate := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(certificate, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ url, ca, want string }{
		{url: "postgres://u:secret@db.example/n"},
		{url: "postgresql://u:secret@a.example,b.example:5433/n?sslmode=verify-ca"},
		{url: "postgres://u:secret@db.example/n?sslmode=require"},
		{url: "postgres:///n?host=/run/postgresql&sslmode=disable"},
		{url: "sqlite:secret", want: "must be postgres://"},
		{url: "postgres://u:sec ret@db.example/n", want: "write special characters"},
		{url: "postgres://u:secret%zz@db.example/n", want: "write special characters"},
		{url: "postgres://u:sec#ret@db.example/n", want: "%"},
		{url: "postgres://u:secret@db.example/n?sslmode=prefer", want: "use verify-full, verify-ca, require or disable"},
		{url: "postgres://u:secret@db.example/n?sslmode=allow", want: "use verify-full, verify-ca, require or disable"},
		{url: "postgres://u:secret@db.example/n?sslmode=secret", want: "use verify-full, verify-ca, require or disable"},
		{url: "postgres://u:secret@db.example/n?connect_timeout=secret", want: "a parameter of it is wrong"},
		{url: "postgres://u:secret@db.example/n?sslrootcert=/no/secret", want: "a file that it names cannot be read"},
		{url: "postgres://u:secret@db.example/n", ca: "/no/such/file", want: "the CA file cannot be read"},
		{url: "postgres://u:secret@db.example/n", ca: certificate, want: "no certificate in PEM"},
	} {
		err := Config{URL: tt.url, CAFile: tt.ca}.Check()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v; want %q", tt.url, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") && !strings.Contains(tt.url, "sqlite") {
			t.Errorf("%s: the error repeats the URL: %v", tt.url, err)
		}
	}
}

// Without a word on it the server has to prove who it is, and nothing goes back to
// plain text.
func TestVerifiedByDefault(t *testing.T) {
	t.Setenv("PGSSLMODE", "disable")
	for _, url := range []string{"postgres://u:p@db.example/n", "postgres://u:p@db.example,other.example/n"} {
		cfg, err := Config{URL: url}.parse()
		if err != nil {
			t.Fatal(err)
		}
		configs := []*tls.Config{cfg.TLSConfig}
		for _, f := range cfg.Fallbacks {
			configs = append(configs, f.TLSConfig)
		}
		for _, c := range configs {
			if c == nil || c.InsecureSkipVerify || !strings.HasSuffix(c.ServerName, ".example") {
				t.Errorf("%s: got a connection that is not verified: %+v", url, c)
			}
		}
	}
}

func TestNumbered(t *testing.T) {
	for query, want := range map[string]string{
		"SELECT 1":                   "SELECT 1",
		"a = ? AND b = ?":            "a = $1 AND b = $2",
		"a = ?2 AND b = ?1 AND ?12 ": "a = $2 AND b = $1 AND $12 ",
		"?":                          "$1",
	} {
		if got := (*DB)(nil).Dialect(query); got != want {
			t.Errorf("%s: got %s; want %s", query, got, want)
		}
	}
}
