package proxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestWhatEachPortTellsOfTheProxy(t *testing.T) {
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "numbers") })
	for _, c := range []struct {
		name      string
		configure func(*Config)
		ports     map[string]int // on the public port and that of the handles
		admin     map[string]int
	}{
		{
			name: "without metrics", configure: func(*Config) {},
			ports: map[string]int{"healthz": 200, "routes": 200, "status": 200, "metrics": 404, "": 404},
			admin: map[string]int{"healthz": 200, "metrics": 404},
		},
		{
			name: "all", configure: func(c *Config) { c.Metrics = metrics },
			ports: map[string]int{"healthz": 200, "routes": 200, "status": 200, "metrics": 200, "x": 404},
			admin: map[string]int{"healthz": 200, "routes": 200, "status": 200, "metrics": 200, "x": 404},
		},
		{
			name: "with a port of its own for that", configure: func(c *Config) { c.Metrics, c.HideAdmin = metrics, true },
			ports: map[string]int{"healthz": 200, "routes": 404, "status": 404, "metrics": 404, "x": 404},
			admin: map[string]int{"healthz": 200, "routes": 200, "status": 200, "metrics": 200, "x": 404},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, app{ongoing: 1, queued: 0}.view(), c.configure)
			admin := httptest.NewServer(r.AdminHandler())
			defer admin.Close()
			for base, want := range map[string]map[string]int{r.url: c.ports, r.handleURL: c.ports, admin.URL: c.admin} {
				for name, status := range want {
					if res, body := get(t, r.client, base+"/-/"+name); res.StatusCode != status {
						t.Errorf("%s/-/%s: status %d, want %d: %s", base, name, res.StatusCode, status, body)
					}
				}
			}
			if res, _ := get(t, r.client, admin.URL+"/app"); res.StatusCode != http.StatusNotFound {
				t.Errorf("the port of those who watch forwards: %d", res.StatusCode)
			}
		})
	}
}
