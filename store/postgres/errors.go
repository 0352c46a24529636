package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
)

// ErrWentBack says that commits which the server had acknowledged are missing: it
// was restored, or a standby that lagged behind took its place.
var ErrWentBack = errors.New("the database went back to an older state: commits that were acknowledged are missing")

func (db *DB) Fault(err error) error {
	if err == nil || errors.Is(err, engine.ErrUnavailable) {
		return err
	}
	var e *pgconn.PgError
	var connect *pgconn.ConnectError
	switch {
	case errors.As(err, &connect):
		return engine.Trouble(fmt.Errorf("the database server cannot be used: %s", reason(err)))
	case !errors.As(err, &e):
		if lost(err) {
			return engine.Trouble(err)
		}
		return err
	case e.Code == "XX001" || e.Code == "XX002": // data_corrupted, index_corrupted
		return fmt.Errorf("%w: %w", engine.ErrDamaged, engine.Trouble(err))
	case e.Code == "23505": // unique_violation
		return fmt.Errorf("%w: %w", approvals.ErrConflict, err)
	case unusable(e.Code):
		return engine.Trouble(err)
	}
	return err
}

// unusable reports whether a SQLSTATE says that the server cannot be used right
// now: https://www.postgresql.org/docs/15/errcodes-appendix.html.
func unusable(code string) bool {
	switch code[:min(2, len(code))] {
	case "08", // connection
		"28",                         // authorization: the password was changed
		"40",                         // rollback: a deadlock
		"53", "57", "58", "XX", "3D": // resources, operator, system, internal, no such database
		return true
	}
	switch code {
	case "25006", // read-only: a standby took the place of the server, or it stands by
		"25P03", // idle in a transaction for too long
		"42501", // a right is missing
		"55P03": // a lock was waited for too long
		return true
	}
	return false
}

// lost reports whether the connection, and not a statement, failed.
func lost(err error) bool {
	var network net.Error
	for _, known := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, driver.ErrBadConn, sql.ErrConnDone, sql.ErrTxDone, context.DeadlineExceeded} {
		if errors.Is(err, known) {
			return true
		}
	}
	return errors.As(err, &network) || pgconn.SafeToRetry(err) || pgconn.Timeout(err)
}

// ended reports whether the server ended the connection.
func ended(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.SeverityUnlocalized == "FATAL"
}

// reason says why no connection could be made, without the address and the names
// that the URL holds.
func reason(err error) string {
	var e *pgconn.PgError
	var dns *net.DNSError
	var network *net.OpError
	var certificate *tls.CertificateVerificationError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError // with verify-ca
	const untrusted = "its certificate is not trusted (see RGW_DATABASE_CA_FILE): "
	switch text := err.Error(); {
	case errors.As(err, &e) && strings.Contains(e.Message, "startup parameter"):
		return "it does not take the time-outs of a session: " + ErrPooler.Error()
	case errors.As(err, &e):
		return "it refuses the connection (SQLSTATE " + e.Code + ", see its log)"
	case errors.As(err, &name): // it says which one is in the URL
		return "its certificate is for another name than the one in the URL: write a name that the certificate holds"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate, or that of its CA, has expired or is not valid yet: renew it, or set the clock of this machine (it is valid from " +
			invalid.Cert.NotBefore.UTC().Format(time.RFC3339) + " to " + invalid.Cert.NotAfter.UTC().Format(time.RFC3339) + ")"
	case errors.As(err, &invalid):
		return untrusted + invalid.Error()
	case errors.As(err, &certificate):
		return untrusted + certificate.Err.Error()
	case errors.As(err, &unknown):
		return untrusted + unknown.Error()
	case errors.As(err, &dns):
		return "its name is not found: " + dns.Err
	case errors.As(err, &network):
		return network.Err.Error()
	case strings.Contains(text, "server refused TLS"):
		return "it does not offer TLS, which sslmode asks for"
	case strings.Contains(text, "read only"), strings.Contains(text, "not primary"):
		return "it stands by and takes no writes"
	case errors.Is(err, context.DeadlineExceeded):
		return "it did not answer in time"
	}
	return "the connection failed"
}

// code is the SQLSTATE of an error, "" when the server sent none.
func code(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}
