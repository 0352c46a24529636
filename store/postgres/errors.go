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
	"slices"
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
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return engine.Trouble(fmt.Errorf("the database server cannot be used: %s", reason(err)))
	}
	switch state := code(err); {
	case state == "XX001" || state == "XX002": // data_corrupted, index_corrupted
		return fmt.Errorf("%w: %w", engine.ErrDamaged, engine.Trouble(err))
	case state == "23505": // unique_violation
		return fmt.Errorf("%w: %w", approvals.ErrConflict, err)
	case state == "" && lost(err), slices.ContainsFunc(unusable, func(start string) bool { return strings.HasPrefix(state, start) }):
		return engine.Trouble(err)
	}
	return err
}

// unusable is how a SQLSTATE begins which says that the server cannot be used right
// now: https://www.postgresql.org/docs/15/errcodes-appendix.html.
var unusable = []string{
	"08",                         // connection
	"28",                         // authorization: the password was changed
	"40",                         // rollback: a deadlock
	"53", "57", "58", "XX", "3D", // resources, operator, system, internal, no such database
	"25006", // read-only: a standby took the place of the server, or it stands by
	"25P03", // idle in a transaction for too long
	"42501", // a right is missing
	"55P03", // a lock was waited for too long
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
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.SeverityUnlocalized == "FATAL"
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
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}
