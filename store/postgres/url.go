package postgres

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Config says which database to open.
type Config struct {
	// URL is a libpq URL "postgres://USER:PASSWORD@HOST:PORT/NAME?…". Without
	// sslmode it is verify-full.
	URL string
	// CAFile holds the certificates that the server's must come from; "" = those
	// that the system trusts.
	CAFile string
	// Existing refuses a database that has no tables yet, in place of creating them.
	Existing bool
}

// IsURL reports whether a URL is one of PostgreSQL.
func IsURL(text string) bool {
	return strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://")
}

// Check says what is wrong with the configuration, without repeating the URL,
// which holds a password.
func (c Config) Check() error {
	_, err := c.parse()
	return err
}

// HasPassword reports whether the URL holds a password.
func (c Config) HasPassword() bool {
	u, err := url.Parse(c.URL)
	if err != nil {
		return true // it cannot be told, and may be what is wrong
	}
	_, has := u.User.Password()
	return has || u.Query().Has("password") || u.Query().Has("sslpassword")
}

func (c Config) parse() (*pgx.ConnConfig, error) {
	u, err := url.Parse(c.URL)
	if err != nil || !IsURL(c.URL) {
		return nil, errors.New("must be postgres://USER:PASSWORD@HOST:PORT/NAME; write special characters of user and password as %XX")
	}
	if u.Fragment != "" {
		return nil, errors.New("has a #: write it as %23")
	}
	// A plus is no blank here, as libpq has it.
	query, err := url.ParseQuery(strings.ReplaceAll(u.RawQuery, "+", "%2B"))
	if err != nil {
		return nil, errors.New("has parameters that cannot be read: write special characters as %XX")
	}
	for name, value := range map[string]string{"sslmode": "verify-full", "target_session_attrs": "read-write", "connect_timeout": "5"} {
		if !query.Has(name) {
			query.Set(name, value)
		}
	}
	modes := []string{"verify-full", "verify-ca", "require", "disable"}
	if !slices.Contains(modes, query.Get("sslmode")) {
		return nil, errors.New("has an sslmode that does not say whether the connection is encrypted: use verify-full, verify-ca, require or disable")
	}
	if c.CAFile != "" {
		switch text, err := os.ReadFile(c.CAFile); {
		case err != nil:
			return nil, fmt.Errorf("the CA file cannot be read: %w", err)
		case !x509.NewCertPool().AppendCertsFromPEM(text):
			return nil, errors.New("the CA file holds no certificate in PEM")
		}
		query.Set("sslrootcert", c.CAFile)
	}
	u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20")
	parsed, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, errors.New("cannot be understood: a parameter of it is wrong, or a file that it names cannot be read")
	}
	maps.Copy(parsed.RuntimeParams, session)
	if parsed.RuntimeParams["application_name"] == "" {
		parsed.RuntimeParams["application_name"] = "rack-gatewayd"
	}
	return parsed, nil
}

// session are settings of every connection: a node that stopped in the middle of a
// transaction, or vanished, must not hold the others up for long.
var session = map[string]string{
	"idle_in_transaction_session_timeout": "5s",
	"lock_timeout":                        "10s",
	"statement_timeout":                   "15s",
	"tcp_user_timeout":                    "8s",
	"tcp_keepalives_idle":                 "5",
	"tcp_keepalives_interval":             "2",
	"tcp_keepalives_count":                "3",
}
