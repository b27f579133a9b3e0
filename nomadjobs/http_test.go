package nomadjobs

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

func TestHTTPClient(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	authority := filepath.Join(t.TempDir(), "ca.pem")
	t.Setenv("NOMAD_CACERT", authority)
	if _, err := HTTPClient(); err == nil {
		t.Error("a file that is not there was taken for an authority")
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(authority, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, trusted := range []bool{true, false} {
		if !trusted {
			t.Setenv("NOMAD_CACERT", "")
		}
		client, err := HTTPClient()
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Get(server.URL)
		if (err == nil) != trusted {
			t.Errorf("with NOMAD_CACERT %v: %v", trusted, err)
		}
		if err == nil {
			resp.Body.Close()
		}
		client.CloseIdleConnections()
	}
}
