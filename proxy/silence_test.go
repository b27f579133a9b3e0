package proxy

import (
	"io"
	"net/http"
	"testing"
	"time"
)

// TestSilentStreams holds that a response may pause for longer than a client may
// read nothing, over both versions of HTTP.
func TestSilentStreams(t *testing.T) {
	const stall = 50 * time.Millisecond
	address := replicaServer(t, func(w http.ResponseWriter, _ *http.Request) {
		for _, text := range []string{"one", "two"} {
			_, _ = io.WriteString(w, text)
			_ = http.NewResponseController(w).Flush()
			<-time.After(4 * stall)
		}
	})
	r := start(t, app{ongoing: 2, queued: -1, addresses: []string{address}}.view(), func(c *Config) { c.ClientStall = stall })
	for name, client := range map[string]*http.Client{"over HTTP/1.1": r.client, "over HTTP/2": h2Client(t)} {
		t.Run(name, func(t *testing.T) {
			if res, body := get(t, client, r.url+"/app"); res.StatusCode != http.StatusOK || body != "onetwo" {
				t.Errorf("%d %q", res.StatusCode, body)
			}
		})
	}
}
