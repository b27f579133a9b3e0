package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// selfSigned writes a certificate and its key into one file.
func selfSigned(t *testing.T, file string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "proxy"}, DNSNames: []string{"proxy"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})...)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAProxySpeaksTLSBehindALoadBalancer has what such a balancer sends: a PROXY
// header, then TLS, then HTTP, over certificates that change and over upgrades.
func TestAProxySpeaksTLSBehindALoadBalancer(t *testing.T) {
	replica := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("X-Forwarded-For"), " ", r.Header.Get("X-Forwarded-Proto"))
	}))
	defer replica.Close()
	consul := newTinyConsul(t, replica.Listener.Addr().String())
	dir := shortFolder(t)
	file := filepath.Join(dir, "proxy.pem")
	selfSigned(t, file, 1)
	p := newProxy(t, consul.URL, dir, fmt.Sprintf("proxy_protocol = [\"127.0.0.1\"]\ntls {\n cert_file = %q\n}", file))
	p.launch("-supervise")
	serves := func(n int) {
		t.Helper()
		p.eventually("it serves", func() bool { return p.output.count(`proxy serves: `) == n })
	}
	serves(1)

	ask := func(major int) (body string, serial int64) {
		t.Helper()
		transport := &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: major == 2,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := (&net.Dialer{}).DialContext(ctx, network, address)
				if err == nil {
					_, err = io.WriteString(c, "PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n")
				}
				return c, err
			},
		}
		defer transport.CloseIdleConnections()
		res, err := (&http.Client{Transport: transport}).Get("https://" + p.address + "/app")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil || res.ProtoMajor != major {
			t.Errorf("%s: %v", res.Proto, err)
		}
		return string(text), res.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	want := func(serial int64) {
		t.Helper()
		for _, major := range []int{1, 2} {
			if body, got := ask(major); body != "192.0.2.1 https" || got != serial {
				t.Errorf("HTTP/%d: got %q with certificate %d", major, body, got)
			}
		}
	}
	p.eventually("the routes are known", func() bool { body, _ := ask(1); return body == "192.0.2.1 https" })
	want(1)
	selfSigned(t, file, 2)
	p.signal(reloadSignal)
	p.eventually("the new certificate is used", func() bool { _, serial := ask(1); return serial == 2 })
	want(2)
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.signal(reloadSignal)
	p.eventually("it is told", func() bool { return p.output.count(`faulty`) > 0 })
	want(2)
	selfSigned(t, file, 3)
	p.signal(upgradeSignal)
	serves(2)
	want(3)
	p.stop()
}
