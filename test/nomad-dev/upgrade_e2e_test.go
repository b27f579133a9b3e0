//go:build e2e && unix

package nomaddev_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// successor is a proxy that a test starts itself, with the configuration of the
// cluster's.
type successor struct {
	*exec.Cmd
	ended chan error
}

// succeed starts one. It ends with the test.
func (s *shop) succeed(args ...string) *successor {
	s.t.Helper()
	config := filepath.Join(s.Dir, "proxy", "serve-nomad.hcl")
	log, err := os.Create(filepath.Join(s.Dir, "successor"+time.Now().Format("150405.000")+".log"))
	if err != nil {
		s.t.Fatal(err)
	}
	p := &successor{
		Cmd:   exec.Command(serveNomad(s.t), append([]string{"proxy", "-config", config, "-drain-notice", "0s"}, args...)...),
		ended: make(chan error, 1),
	}
	p.Stdout, p.Stderr = log, log
	if err := p.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = p.Process.Kill()
		_ = log.Close()
	})
	go func() { p.ended <- p.Wait() }()
	return p
}

// ends waits until it has ended, in order.
func (p *successor) ends(t *testing.T) {
	t.Helper()
	select {
	case err := <-p.ended:
		if err != nil {
			t.Errorf("the proxy ended with %v", err)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("the proxy does not end")
	}
}

// staleness is what the proxy says of why its table may be old.
func (s *shop) staleness() (reason string, err error) {
	body, err := tryGet(s.t.Context(), s.Proxies[0].URL()+"/-/status")
	if err != nil {
		return "", err
	}
	var status struct {
		Reason string `json:"discovery_error"`
	}
	return status.Reason, json.Unmarshal(body, &status)
}

// TestProxyIsReplaced upgrades the proxy under load, also while Consul is away,
// and then starts it without Consul.
func TestProxyIsReplaced(t *testing.T) {
	s := startShop(t, 1, 1)
	s.deploy(0)
	l := s.startLoad()
	l.answered(t, 100)

	first := s.succeed("-upgrade")
	select {
	case <-s.Proxies[0].Done():
	case <-time.After(60 * time.Second):
		t.Fatal("the first proxy does not end")
	}
	l.answered(t, 200)

	s.Consul.Kill()
	second := s.succeed("-upgrade")
	first.ends(t)
	l.answered(t, 200)
	l.wantNoneLost(t)

	if err := second.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	second.ends(t)
	third := s.succeed()
	eventually(t, 30*time.Second, "the shop is served from what lies on disk", func() error {
		_, _, err := s.ask("/shop/item")
		return err
	})
	if reason, err := s.staleness(); err != nil || reason == "" {
		t.Errorf("the proxy does not say that its table is old: %v", err)
	}
	if err := s.Consul.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 60*time.Second, "Consul is read", func() error {
		reason, err := s.staleness()
		if err == nil && reason != "" {
			err = errors.New(reason)
		}
		return err
	})
	if _, _, err := s.ask("/shop/item"); err != nil {
		t.Error(err)
	}
	if err := third.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	third.ends(t)
}
