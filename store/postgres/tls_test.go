package postgres

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
)

// server answers the request for TLS (SSLRequest of the protocol) with one byte, and
// goes on with TLS after 'S'. It keeps what it is sent.
type server struct {
	listener net.Listener
	running  sync.WaitGroup

	mu   sync.Mutex
	sent []byte // past the request
}

func newServer(t *testing.T, answer byte, cfg *tls.Config) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{listener: l}
	s.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.running.Go(func() { s.talk(conn, answer, cfg) })
		}
	})
	t.Cleanup(func() { l.Close(); s.running.Wait() })
	return s
}

func (s *server) talk(conn net.Conn, answer byte, cfg *tls.Config) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	request := make([]byte, 8)
	if _, err := io.ReadFull(conn, request); err != nil {
		return
	}
	if _, err := conn.Write([]byte{answer}); err != nil {
		return
	}
	if answer == 'S' {
		conn = tls.Server(conn, cfg)
	}
	more, _ := io.ReadAll(conn)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, more...)
}

// certificate makes a certificate for a name, and writes it to a file as its own CA.
func certificate(t *testing.T, name string) (cfg *tls.Config, ca string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, ca
}

// Unless the URL says otherwise, nothing is sent to a server that does not prove who
// it is, least of all the password.
func TestServerThatIsNotTrusted(t *testing.T) {
	own, ca := certificate(t, "localhost")
	other, otherCA := certificate(t, "db.example")
	for _, tt := range []struct {
		name   string
		answer byte
		cfg    *tls.Config
		ca     string
		want   string
		sends  bool
	}{
		{"no TLS", 'N', nil, "", "it does not offer TLS", false},
		{"an unknown CA", 'S', own, "", "its certificate is not trusted", false},
		{"another CA", 'S', own, otherCA, "its certificate is not trusted", false},
		{"another name", 'S', other, otherCA, "its certificate is for another name", false},
		{"the right one", 'S', own, ca, "", true},
	} {
		s := newServer(t, tt.answer, tt.cfg)
		_, port, err := net.SplitHostPort(s.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, err = Open(t.Context(), Config{URL: "postgres://someuser:secretvalue@localhost:" + port + "/somebase?connect_timeout=2", CAFile: tt.ca})
		if !errors.Is(err, engine.ErrUnavailable) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v; want %q", tt.name, err, tt.want)
		}
		for _, part := range []string{"someuser", "secretvalue", "localhost", "somebase"} {
			if err != nil && strings.Contains(err.Error(), part) {
				t.Errorf("%s: the error repeats the URL: %v", tt.name, err)
			}
		}
		s.listener.Close()
		s.running.Wait()
		if got := len(s.sent) > 0; got != tt.sends {
			t.Errorf("%s: got %q sent; want that %v", tt.name, s.sent, tt.sends)
		}
	}
}
