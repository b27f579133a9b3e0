package listeners

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// served is the certificate and the protocol that a client gets.
func served(t *testing.T, address net.Addr, config *tls.Config) (*tls.ConnectionState, error) {
	t.Helper()
	c, err := tls.Dial("tcp", address.String(), config)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	// With TLS 1.3 a client learns only then that its certificate is refused.
	if _, err := io.WriteString(c, plainRequest); err != nil {
		return nil, err
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		return nil, err
	}
	state := c.ConnectionState()
	return &state, nil
}

func TestCertificatesByName(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	one, two := pairIn(dir, "one"), pairIn(dir, "two")
	ca.issue(t, one, "one.example")
	ca.issue(t, two, "two.example")
	certificates, err := NewCertificates(TLSConfig{Certificates: []CertificateFiles{one, two}}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	l := open(t, Options{TLS: certificates})
	serve(t, l, nil)
	for _, name := range []string{"one.example", "two.example"} {
		state, err := served(t, l.Addr(), &tls.Config{RootCAs: ca.pool(), ServerName: name})
		if err != nil || state.PeerCertificates[0].Subject.CommonName != name {
			t.Errorf("%s: got %v, %v", name, state, err)
		}
	}
	state, err := served(t, l.Addr(), &tls.Config{InsecureSkipVerify: true})
	if err != nil || state.PeerCertificates[0].Subject.CommonName != "one.example" {
		t.Errorf("without a name: %v", err)
	}
	state, err = served(t, l.Addr(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil || state.NegotiatedProtocol != "http/1.1" {
		t.Errorf("HTTP/1.1: %v", err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Get("https://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.ProtoMajor != 2 {
		t.Errorf("got %s", res.Proto)
	}
	if _, err := served(t, l.Addr(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
}

func TestClientsNeedACertificateWhereThatIsAsked(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	own, good, bad := pairIn(dir, "own"), pairIn(dir, "good"), pairIn(dir, "bad")
	ca.issue(t, own, "own.example")
	ca.issue(t, good, "client")
	newAuthority(t).issue(t, bad, "client")
	authorities := dir + "/ca.pem"
	writePEM(t, authorities, "CERTIFICATE", ca.certificate.Raw)
	certificates, err := NewCertificates(TLSConfig{
		Certificates: []CertificateFiles{own}, ClientCA: authorities, MinVersion: tls.VersionTLS13,
	}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	l := open(t, Options{TLS: certificates})
	serve(t, l, nil)
	for _, c := range []struct {
		name  string
		files *CertificateFiles
		ok    bool
	}{{"none", nil, false}, {"of another authority", &bad, false}, {"a good one", &good, true}} {
		config := &tls.Config{RootCAs: ca.pool(), ServerName: "own.example"}
		if c.files != nil {
			pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
			if err != nil {
				t.Fatal(err)
			}
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		if _, err := served(t, l.Addr(), config); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		config.MaxVersion = tls.VersionTLS12
		if _, err := served(t, l.Addr(), config); err == nil {
			t.Errorf("%s: TLS 1.2 is spoken", c.name)
		}
	}
}

func TestCertificatesAreReadAgainUnderLoad(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	files := pairIn(dir, "a")
	serial := ca.issue(t, files, "a.example")
	certificates, err := NewCertificates(TLSConfig{Certificates: []CertificateFiles{files}}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	l := open(t, Options{TLS: certificates})
	serve(t, l, nil)
	stop := make(chan struct{})
	var done atomic.Int64
	var load sync.WaitGroup
	for range 2 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := served(t, l.Addr(), &tls.Config{RootCAs: ca.pool(), ServerName: "a.example"}); err != nil {
					t.Errorf("under load: %v", err)
					return
				}
				done.Add(1)
			}
		})
	}
	for range 10 {
		// Each file by itself, as people copy them: between them they do not match.
		next := pairIn(t.TempDir(), "a")
		serial = ca.issue(t, next, "a.example")
		for _, c := range [][2]string{{next.Cert, files.Cert}, {next.Key, files.Key}} {
			data, err := os.ReadFile(c[0])
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(c[1], data, 0o600); err != nil {
				t.Fatal(err)
			}
			err = certificates.Check()
			if matches := c[1] == files.Key; (err == nil) != matches {
				t.Errorf("after %s: %v", c[1], err)
			}
		}
		seen := done.Load()
		eventually(t, "requests go on", func() bool { return done.Load() > seen+2 || t.Failed() })
	}
	close(stop)
	load.Wait()
	state, err := served(t, l.Addr(), &tls.Config{RootCAs: ca.pool(), ServerName: "a.example"})
	if err != nil || state.PeerCertificates[0].SerialNumber.Int64() != serial {
		t.Errorf("at last: %v", err)
	}
}

func TestABadCertificateChangesNothing(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	files := pairIn(dir, "a")
	serial := ca.issue(t, files, "a.example")
	var log bytes.Buffer
	certificates, err := NewCertificates(TLSConfig{Certificates: []CertificateFiles{files}}, hclog.New(&hclog.LoggerOptions{Output: &log}))
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(files.Cert)
	if err != nil {
		t.Fatal(err)
	}
	other := pairIn(t.TempDir(), "b")
	ca.issue(t, other, "b.example")
	foreign, err := os.ReadFile(other.Cert)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"nothing": {}, "no certificate": []byte("hello"), "half of one": good[:len(good)/2], "one of another key": foreign,
	} {
		if err := os.WriteFile(files.Cert, content, 0o600); err != nil {
			t.Fatal(err)
		}
		log.Reset()
		for range 3 {
			if certificates.Check() == nil {
				t.Errorf("%s: no error", name)
			}
		}
		if n := strings.Count(log.String(), "stay in use"); n != 1 || !strings.Contains(log.String(), files.Cert) {
			t.Errorf("%s: told %d times: %s", name, n, &log)
		}
		if got := certificates.config().Certificates[0].Leaf.SerialNumber.Int64(); got != serial {
			t.Errorf("%s: serial %d", name, got)
		}
		if err := os.WriteFile(files.Cert, good, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := certificates.Check(); err != nil {
			t.Errorf("the old one again after %s: %v", name, err)
		}
		if err := certificates.Check(); err != nil || strings.Count(log.String(), "in use again") != 1 {
			t.Errorf("the old one for good after %s: %v, %s", name, err, &log)
		}
	}
	if err := os.Remove(files.Cert); err != nil {
		t.Fatal(err)
	}
	if err := certificates.Check(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := certificates.Change(TLSConfig{Certificates: []CertificateFiles{{Cert: "none", Key: "none"}}}); err == nil || strings.Count(err.Error(), "open none") != 1 {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := os.WriteFile(files.Cert, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := certificates.Change(TLSConfig{Certificates: []CertificateFiles{files}, ClientCA: files.Key}); err == nil || !strings.Contains(err.Error(), files.Key) {
		t.Errorf("a key for authorities: %v", err)
	}
	if _, err := NewCertificates(TLSConfig{}, hclog.NewNullLogger()); err == nil {
		t.Error("no certificate: no error")
	}
}

// Whoever does not finish the handshake is counted, however it ended.
func TestHandshakesThatFail(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	own := pairIn(dir, "own")
	ca.issue(t, own, "own.example")
	certificates, err := NewCertificates(TLSConfig{Certificates: []CertificateFiles{own}}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	l := open(t, Options{TLS: certificates})
	serve(t, l, nil)
	for i, fail := range []func(){
		func() { say(t, l.Addr(), plainRequest) },
		func() { say(t, l.Addr(), "\x16\x03\x01\xff\xff") },
		func() { _ = dial(t, l.Addr()).Close() },
		func() {
			if _, err := served(t, l.Addr(), &tls.Config{RootCAs: ca.pool(), ServerName: "other.example"}); err == nil {
				t.Error("the client takes another's certificate")
			}
		},
		func() {
			if _, err := served(t, l.Addr(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil {
				t.Error("TLS 1.1 is spoken")
			}
		},
	} {
		fail()
		eventually(t, "the failure is counted, once", func() bool {
			s := l.Stats()
			return s.BadHandshake == uint64(i+1) && s.Open == 0
		})
		if _, err := served(t, l.Addr(), &tls.Config{RootCAs: ca.pool(), ServerName: "own.example"}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all are gone", func() bool { return l.Stats().Open == 0 })
	if s := l.Stats(); s.Accepted != 10 || s.BadHandshake != 5 || s.BadHeader != 0 {
		t.Errorf("got %+v", s)
	}
}

// A connection may be closed while its handshake is under way, by whoever waits
// for it too long.
func TestCloseDuringAHandshake(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	own := pairIn(dir, "own")
	ca.issue(t, own, "own.example")
	certificates, err := NewCertificates(TLSConfig{Certificates: []CertificateFiles{own}}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	l := open(t, Options{TLS: certificates})
	client := dial(t, l.Addr())
	if _, err := io.WriteString(client, "\x16\x03\x01\x00"); err != nil { // a part of a record
		t.Fatal(err)
	}
	c, err := l.Attach().Accept()
	if err != nil {
		t.Fatal(err)
	}
	shaking := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { shaking <- c.(*tls.Conn).HandshakeContext(ctx) }()
	cancel() // which closes it, from within
	if err := <-shaking; err == nil {
		t.Error("the handshake is done")
	}
	_ = c.Close()
	// Who closed it from within counts it, maybe a moment later.
	eventually(t, "it is counted", func() bool { s := l.Stats(); return s.BadHandshake == 1 && s.Open == 0 })
}
