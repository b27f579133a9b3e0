package listeners

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// CertificateFiles name a certificate chain and its key, both PEM. They may be
// one file.
type CertificateFiles struct{ Cert, Key string }

// TLSConfig is how a port speaks TLS.
type TLSConfig struct {
	// Certificates are chosen from by the name that the client asks for; the
	// first one is for those who ask for none, or for one that none is for.
	Certificates []CertificateFiles
	MinVersion   uint16 // such as tls.VersionTLS12, which 0 stands for
	// ClientCA names a file of the authorities one of which must have signed
	// each client's certificate; "": clients need none.
	ClientCA string
}

// Certificates are those of a port, as last read from their files.
type Certificates struct {
	log     hclog.Logger
	current atomic.Pointer[tls.Config]

	mu     sync.Mutex // guards what follows
	files  TLSConfig
	read   [][]byte // contents of the files that current is made of
	failed string   // why what lies there cannot be used, as last told
}

// NewCertificates reads the files of c. The error says every fault.
func NewCertificates(c TLSConfig, log hclog.Logger) (*Certificates, error) {
	s := &Certificates{log: log}
	return s, s.Change(c)
}

func (s *Certificates) config() *tls.Config { return s.current.Load() }

// Change reads other files. On an error everything stays as it is.
func (s *Certificates) Change(c TLSConfig) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	contents, err := readFiles(c)
	if err != nil {
		return err
	}
	config, err := makeConfig(c, contents)
	if err != nil {
		return err
	}
	s.files, s.read, s.failed = c, contents, ""
	s.current.Store(config)
	s.tell(config)
	return nil
}

// Check reads the files again. When they hold something else that can be used
// it is used for the connections to come; else what was read last stays, and the
// log says so, once for each fault.
func (s *Certificates) Check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	contents, err := readFiles(s.files)
	if err == nil && slices.EqualFunc(contents, s.read, bytes.Equal) {
		if s.failed != "" {
			s.log.Info("the files hold the certificates that are in use again")
		}
		s.failed = ""
		return nil
	}
	var config *tls.Config
	if err == nil {
		config, err = makeConfig(s.files, contents)
	}
	if err != nil {
		if err.Error() != s.failed {
			s.failed = err.Error()
			s.log.Error("the certificates cannot be read again; those from before stay in use", "error", err)
		}
		return err
	}
	s.read, s.failed = contents, ""
	s.current.Store(config)
	s.tell(config)
	return nil
}

// Watch checks the files again and again, until ctx ends.
func (s *Certificates) Watch(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_ = s.Check() // it is in the log
		}
	}
}

// tell logs what is in use, and what is about to be of no use.
func (s *Certificates) tell(config *tls.Config) {
	for i, c := range config.Certificates {
		log, now := s.log.Info, time.Now()
		state := "certificate in use"
		if now.After(c.Leaf.NotAfter) || now.Before(c.Leaf.NotBefore) {
			log, state = s.log.Warn, "a certificate is not valid now; it is used all the same"
		}
		log(state, "file", s.files.Certificates[i].Cert, "names", strings.Join(c.Leaf.DNSNames, ","), "until", c.Leaf.NotAfter)
	}
}

// readFiles returns the contents of certificate, key, certificate, key ... and
// the authorities.
func readFiles(c TLSConfig) (contents [][]byte, err error) {
	var names []string
	for _, pair := range c.Certificates {
		names = append(names, pair.Cert, pair.Key)
	}
	if c.ClientCA != "" {
		names = append(names, c.ClientCA)
	}
	var faults []error
	for i, name := range names {
		data, err := os.ReadFile(name)
		if err != nil && !slices.Contains(names[:i], name) { // a key that is in its certificate's file
			faults = append(faults, err)
		}
		contents = append(contents, data)
	}
	return contents, errors.Join(faults...)
}

func makeConfig(c TLSConfig, contents [][]byte) (*tls.Config, error) {
	config := &tls.Config{MinVersion: cmp.Or(c.MinVersion, tls.VersionTLS12), NextProtos: []string{"h2", "http/1.1"}}
	var faults []error
	if len(c.Certificates) == 0 {
		faults = append(faults, errors.New("no certificate is named"))
	}
	for i, pair := range c.Certificates {
		certificate, err := tls.X509KeyPair(contents[2*i], contents[2*i+1])
		if err != nil {
			faults = append(faults, fmt.Errorf("%s with %s: %w", pair.Cert, pair.Key, err))
			continue
		}
		config.Certificates = append(config.Certificates, certificate)
	}
	if c.ClientCA != "" {
		config.ClientCAs, config.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !config.ClientCAs.AppendCertsFromPEM(contents[len(contents)-1]) {
			faults = append(faults, fmt.Errorf("%s has no certificate of an authority", c.ClientCA))
		}
	}
	return config, errors.Join(faults...)
}
