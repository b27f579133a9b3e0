package listeners

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open returns a Listener that runs, on a free port.
func open(t *testing.T, options Options) *Listener {
	t.Helper()
	l, err := Open(t.Context(), "public", "127.0.0.1:0", options, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	running(t, l)
	return l
}

func running(t *testing.T, l *Listener) {
	t.Helper()
	var run sync.WaitGroup
	run.Go(l.Run)
	t.Cleanup(func() {
		_ = l.Attach().Close()
		run.Wait()
	})
}

// serve answers each request on l with the client's address, or what h says.
func serve(t *testing.T, l *Listener, h http.HandlerFunc) *http.Server {
	t.Helper()
	if h == nil {
		h = func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RemoteAddr) }
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	s := &http.Server{Handler: h, Protocols: protocols}
	var run sync.WaitGroup
	a := l.Attach()
	run.Go(func() { _ = s.Serve(a) })
	t.Cleanup(func() {
		_ = s.Close()
		run.Wait()
	})
	return s
}

func dial(t *testing.T, address net.Addr) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// say writes to a new connection and returns all that comes back. One that is
// cut off at once may look as if it had never been there.
func say(t *testing.T, address net.Addr, what string) string {
	t.Helper()
	c, err := net.Dial("tcp", address.String())
	if errors.Is(err, syscall.ECONNRESET) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, what) // it may have been closed already
	answer, _ := io.ReadAll(c)     // a connection that is cut off has no more to say
	return string(answer)
}

const plainRequest = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

var everybody = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// eventually polls a condition until it holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within 20 s: %s", what)
		case <-ticker.C:
		}
	}
}

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	serial      int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	a.certificate, a.key = a.make(t, template)
	return a
}

func (a *authority) make(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

// issue writes a certificate for a name, and its key, over the files.
func (a *authority) issue(t *testing.T, files CertificateFiles, name string) (serial int64) {
	t.Helper()
	a.serial++
	serial = 100 + a.serial
	certificate, key := a.make(t, &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, files.Cert, "CERTIFICATE", certificate.Raw)
	writePEM(t, files.Key, "EC PRIVATE KEY", der)
	return serial
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.certificate)
	return p
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func pairIn(dir, name string) CertificateFiles {
	return CertificateFiles{Cert: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+".key")}
}
