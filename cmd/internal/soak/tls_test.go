package soak_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/cmd/internal/gatewayd"
)

// TestTLS opens a database on a PostgreSQL server with TLS, that takes nothing else,
// and on one without: unless the URL says otherwise, the server must prove who it is.
func TestTLS(t *testing.T) {
	begin(t)
	s := newServer(t, nil)
	ca, other := s.certificate("server", "localhost", time.Hour), s.certificate("other", "localhost", time.Hour)
	const onlyTLS = "hostssl all all 127.0.0.1/32 trust"
	s.configure("require", onlyTLS, "ssl = 'on'", "ssl_cert_file = '"+ca+"'", "ssl_key_file = '"+s.dir+"/server.key'")
	for _, tt := range []struct{ name, host, mode, ca, want string }{
		{"the right CA", "localhost", "", ca, ""},
		{"no CA", "localhost", "", "", "its certificate is not trusted"},
		{"another CA", "localhost", "", other, "its certificate is not trusted"},
		{"another name", "127.0.0.1", "", ca, "its certificate is for another name than the one in the URL"},
		{"another name, which is not asked for", "127.0.0.1", "verify-ca", ca, ""},
		{"another CA, whatever the name", "127.0.0.1", "verify-ca", other, "its certificate is not trusted"},
		{"any certificate", "localhost", "require", "", ""},
		{"no TLS, where the server wants it", "localhost", "disable", "", "it refuses the connection (SQLSTATE 28000"},
	} {
		s.wantOpened(tt.name, tt.host, tt.mode, tt.ca, tt.want)
	}
	expired := s.certificate("expired", "localhost", -time.Hour)
	s.configure("require", onlyTLS, "ssl = 'on'", "ssl_cert_file = '"+expired+"'", "ssl_key_file = '"+s.dir+"/expired.key'")
	for _, tt := range []struct{ name, mode, ca, want string }{
		{"an expired certificate", "", expired, "has expired or is not valid yet: renew it"},
		{"an expired certificate, whatever the name", "verify-ca", expired, "has expired or is not valid yet: renew it"},
		{"an expired certificate, with a CA that is asked for", "require", expired, "has expired or is not valid yet: renew it"},
		{"an expired certificate, at which nobody looks", "require", "", ""},
	} {
		s.wantOpened(tt.name, "localhost", tt.mode, tt.ca, tt.want)
	}
	s.configure("disable", "host all all 127.0.0.1/32 trust", "ssl = 'off'")
	for _, tt := range []struct{ name, mode, want string }{
		{"a server without TLS", "", "it does not offer TLS"},
		{"a server without TLS, which is asked for it", "require", "it does not offer TLS"},
		{"a server without TLS, as the URL says", "disable", ""},
	} {
		s.wantOpened(tt.name, "localhost", tt.mode, "", tt.want)
	}
}

// wantOpened makes or looks up the tables, as the operator does, and fails unless that
// goes well, or is refused with these words.
func (s *server) wantOpened(name, host, mode, ca, want string) {
	s.t.Helper()
	url := "postgres://postgres:secretvalue@" + host + ":" + s.port + "/postgres"
	if mode != "" {
		url += "?sslmode=" + mode
	}
	var said bytes.Buffer
	env := []string{"RGW_DATABASE_URL=" + url, "RGW_DATABASE_CA_FILE=" + ca}
	code := gatewayd.Run(s.t.Context(), []string{"migrate"}, env, strings.NewReader(""), io.Discard, &said)
	if want == "" && code != 0 || want != "" && (code == 0 || !strings.Contains(said.String(), want)) {
		s.t.Errorf("%s: got exit code %d, %s; want %q", name, code, &said, want)
	}
	if strings.Contains(said.String(), "secretvalue") {
		s.t.Errorf("%s: the password is in %s", name, &said)
	}
}

// certificate writes a certificate for a host, which is its own CA and is valid for so
// long from now on, and its key to files that are named so.
func (s *server) certificate(name, host string, valid time.Duration) (file string) {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotAfter: time.Now().Add(valid),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	public, err1 := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	private, err2 := x509.MarshalPKCS8PrivateKey(key)
	file = filepath.Join(s.dir, name+".crt")
	s.write(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: public}))
	s.write(filepath.Join(s.dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	if err := errors.Join(err1, err2); err != nil {
		s.t.Fatal(err)
	}
	return file
}

// write writes a file that only the server reads.
func (s *server) write(file string, text []byte) {
	s.t.Helper()
	err := os.WriteFile(file, text, 0o600)
	if id := serverUser(s.t); id != nil && err == nil {
		err = os.Chown(file, int(id.Uid), int(id.Gid))
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// configure has the server read a line of pg_hba.conf and settings, so that it is
// reached with an sslmode and was not before.
func (s *server) configure(mode, access string, settings ...string) {
	s.t.Helper()
	s.write(filepath.Join(s.data(), "pg_hba.conf"), []byte(access+"\n"))
	s.write(filepath.Join(s.data(), "postgresql.auto.conf"), []byte(strings.Join(settings, "\n")+"\n"))
	s.mode = mode
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
	s.answers(30 * time.Second)
}
