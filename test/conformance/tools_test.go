//go:build conformance

package conformance

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// tool builds a program that the nested module tools pins.
func tool(t *testing.T, pkg string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), filepath.Base(pkg))
	out, err := exec.CommandContext(t.Context(), "go", "build", "-C", "tools", "-o", path, pkg).CombinedOutput()
	if err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return path
}

func answerOK(w http.ResponseWriter, r *http.Request) {
	// An error is the client's, who breaks rules on purpose.
	_, _ = io.Copy(io.Discard, r.Body)
	_, _ = io.WriteString(w, "an answer of some bytes")
}

// TestH2Spec holds our listener against a bare server of Go's in the same run:
// it fails no case that Go's passes.
func TestH2Spec(t *testing.T) {
	h2spec := tool(t, "github.com/summerwind/h2spec/cmd/h2spec")
	a := application{name: "root", prefix: "/", ongoing: 100, queued: -1, replicas: []string{replica(t, answerOK)}}
	ours := runH2Spec(t, h2spec, start(t, viewOf(a)).addr)
	bare := runH2Spec(t, h2spec, bareServer(t))
	t.Logf("h2spec: the proxy passes %d of %d, net/http alone %d of %d", ours.passed, ours.total, bare.passed, bare.total)
	for _, name := range ours.failed {
		t.Logf("failed by the proxy (by net/http alone: %v): %s", slices.Contains(bare.failed, name), name)
	}
	if bare.total < 100 || ours.total != bare.total || ours.passed < bare.passed {
		t.Errorf("the proxy passes %d of %d, net/http alone %d of %d", ours.passed, ours.total, bare.passed, bare.total)
	}
}

func bareServer(t *testing.T) (addr string) {
	t.Helper()
	l := listen(t)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: http.HandlerFunc(answerOK), Protocols: protocols, ErrorLog: log.New(io.Discard, "", 0)}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) }) // it ends with Close
	t.Cleanup(func() {
		_ = s.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

type suiteResult struct {
	total, passed int
	failed        []string
}

// runH2Spec reads the report that h2spec writes for JUnit.
func runH2Spec(t *testing.T, h2spec, addr string) (r suiteResult) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(t.TempDir(), "report.xml")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, h2spec, "-h", host, "-p", port, "-o", "2", "-j", report).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) { // it exits with 1 when a case fails
		t.Fatalf("%s: %v\n%s", h2spec, err, out)
	}
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var suites struct {
		Suites []struct {
			Name  string `xml:"name,attr"`
			Cases []struct {
				Package string    `xml:"package,attr"`
				Class   string    `xml:"classname,attr"`
				Failure *struct{} `xml:"failure"`
				Error   *struct{} `xml:"error"`
				Skipped *struct{} `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &suites); err != nil {
		t.Fatal(err)
	}
	for _, s := range suites.Suites {
		for _, c := range s.Cases {
			r.total++
			if c.Failure == nil && c.Error == nil && c.Skipped == nil {
				r.passed++
			} else {
				r.failed = append(r.failed, fmt.Sprintf("%s: %s", c.Package, strings.TrimSpace(c.Class)))
			}
		}
	}
	return r
}
