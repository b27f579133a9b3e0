package consulsd

import (
	"errors"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
)

func TestWriteRoute(t *testing.T) {
	t.Run("makes an entry, and replaces the one that was read", func(t *testing.T) {
		f := newFakeConsul(t)
		c := f.client(Config{Prefix: "/other/"})
		if err := c.WriteRoute(t.Context(), route("search"), 0); err != nil {
			t.Fatal(err)
		}
		entries, _, err := c.routeEntries(t.Context(), 0, 0)
		if err != nil || len(entries) != 1 {
			t.Fatalf("entries %v, error %v", entries, err)
		}
		if _, ok := f.kv["other/routes/search"]; !ok {
			t.Errorf("keys are %v", f.kv)
		}
		got, err := decodeEntry("search", entries[0].value)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(route("search"), got); diff != "" {
			t.Error(diff)
		}
		if err := c.WriteRoute(t.Context(), route("search"), entries[0].modifyIndex); err != nil {
			t.Fatal(err)
		}
		if err := c.WriteRoute(t.Context(), route("search"), entries[0].modifyIndex); !errors.Is(err, ErrConflict) {
			t.Errorf("over a newer entry: %v", err)
		}
		if err := c.WriteRoute(t.Context(), route("search"), 0); !errors.Is(err, ErrConflict) {
			t.Errorf("over an entry that must not be: %v", err)
		}
	})
	t.Run("refuses what no proxy could serve by, before it asks Consul", func(t *testing.T) {
		f := newFakeConsul(t)
		c := f.client(Config{})
		bad := route("search")
		bad.Ingress = "nobody"
		if err := c.WriteRoute(t.Context(), bad, 0); err == nil || !strings.Contains(err.Error(), `ingress "nobody"`) {
			t.Errorf("got %v", err)
		}
		if err := c.WriteRoute(t.Context(), route("../x"), 0); err == nil {
			t.Error("took a name with dots")
		}
		if f.queries != 0 {
			t.Errorf("%d calls", f.queries)
		}
	})
	t.Run("refuses an entry over 512 KiB", func(t *testing.T) {
		r := route("search")
		r.ClusterID = strings.Repeat("x", 512<<10)
		err := newFakeConsul(t).client(Config{}).WriteRoute(t.Context(), r, 0)
		if err == nil || !strings.Contains(err.Error(), "Consul KV takes 524288") {
			t.Errorf("got %v", err)
		}
	})
}

func TestDropRoute(t *testing.T) {
	f := newFakeConsul(t)
	c := f.client(Config{})
	index := f.putRoute(route("search"))
	if err := c.DropRoute(t.Context(), "search", index-1); !errors.Is(err, ErrConflict) {
		t.Errorf("another entry: %v", err)
	}
	if err := c.DropRoute(t.Context(), "search", 0); !errors.Is(err, ErrConflict) {
		t.Errorf("no index: %v", err)
	}
	if err := c.DropRoute(t.Context(), "search", index); err != nil {
		t.Error(err)
	}
	if err := c.DropRoute(t.Context(), "search", index); err != nil {
		t.Errorf("gone already: %v", err)
	}
	if err := c.DropRoute(t.Context(), "a/../b", index); err == nil {
		t.Error("took a name with slashes")
	}
}

func TestNewUsesConsulsEnvironment(t *testing.T) {
	f := newFakeConsul(t)
	var token string
	f.breakWith(func(_ http.ResponseWriter, r *http.Request) bool {
		token = r.Header.Get("X-Consul-Token")
		return false
	})
	t.Setenv("CONSUL_HTTP_ADDR", f.server.URL)
	t.Setenv("CONSUL_HTTP_TOKEN", "from-env")
	c, err := New(Config{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if token != "from-env" || c.Address() != f.server.URL {
		t.Errorf("token %q, address %q", token, c.Address())
	}
	c, err = New(Config{Token: "from-config"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ping(t.Context()); err != nil || token != "from-config" {
		t.Errorf("token %q, error %v", token, err)
	}
}

func TestErrorsSayWhereAndWhatToSet(t *testing.T) {
	c, err := New(Config{Address: "127.0.0.1:1"}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func() error{
		"ping":  func() error { return c.Ping(t.Context()) },
		"write": func() error { return c.WriteRoute(t.Context(), route("a"), 0) },
		"drop":  func() error { return c.DropRoute(t.Context(), "a", 1) },
		"read":  func() error { _, _, err := c.routeEntries(t.Context(), 0, 0); return err },
	} {
		t.Run(name+" names the address and the variable", func(t *testing.T) {
			err := call()
			if err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") || !strings.Contains(err.Error(), "CONSUL_HTTP_ADDR") {
				t.Errorf("got %v", err)
			}
		})
	}
	answers := map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"403 names the token":              {status(403, "ACL not found"), "CONSUL_HTTP_TOKEN"},
		"429 names Consul's limit":         {status(429, "slow down"), "http_max_conns_per_client"},
		"500 shows what Consul says":       {status(500, "No cluster leader"), "No cluster leader"},
		"a long page is cut":               {status(502, strings.Repeat("<p>", 10000)), "..."},
		"404 of another server is refused": {status(404, "nothing here"), "not one of Consul's"},
		"an answer that the token thinned out is refused": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Consul-Index", "7")
			w.Header().Set("X-Consul-LastContact", "0")
			w.Header().Set("X-Consul-Results-Filtered-By-ACLs", "true")
			_, _ = w.Write([]byte("[]"))
		}, "may not see"},
		"a page that is not JSON is refused": {status(200, "<html>"), "invalid character"},
	}
	for name, tt := range answers {
		t.Run(name, func(t *testing.T) {
			f := newFakeConsul(t)
			f.breakWith(func(w http.ResponseWriter, r *http.Request) bool { tt.answer(w, r); return true })
			_, _, err := f.client(Config{}).routeEntries(t.Context(), 0, 0)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v", err)
			}
			if err != nil && len(err.Error()) > 700 {
				t.Errorf("%d bytes of error", len(err.Error()))
			}
		})
	}
}

func TestAnAnswerWithoutEndIsCutOff(t *testing.T) {
	f := newFakeConsul(t)
	f.breakWith(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("X-Consul-Index", "7")
		_, _ = w.Write([]byte(`[{"Key":"`))
		for {
			if _, err := w.Write([]byte(strings.Repeat("x", 1<<16))); err != nil {
				return true
			}
		}
	})
	inner := &http.Transport{}
	defer inner.CloseIdleConnections()
	httpClient := &http.Client{Transport: guardedTransport{inner, 1 << 20}}
	consul, err := api.NewClient(&api.Config{Address: f.server.URL, HttpClient: httpClient})
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{consul: consul, address: f.server.URL, prefix: DefaultPrefix}
	if _, _, err := c.routeEntries(t.Context(), 0, time.Minute); !errors.Is(err, errTooLong) {
		t.Errorf("got %v", err)
	}
}

func status(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}
}

func TestDecodeEntry(t *testing.T) {
	bad := map[string]string{
		"not JSON":                        `{"schema":1,`,
		"another kind of JSON":            `[1]`,
		"trailing garbage":                `{"schema":1}x`,
		"a schema of later":               `{"schema":2,"application":"a"}`,
		"no schema":                       `{"application":"a"}`,
		"another application's":           strings.ReplaceAll(routeJSON, `"a"`, `"b"`),
		"no deployments":                  strings.Replace(routeJSON, `"main":{`, `"other":{`, 1),
		"a limit of nothing":              strings.Replace(routeJSON, `"max_ongoing_requests":5`, `"max_ongoing_requests":0`, 1),
		"a protocol that is not known":    strings.Replace(routeJSON, `"max_queued_requests"`, `"protocol":"h3","max_queued_requests"`, 1),
		"a health service of two lines":   strings.Replace(routeJSON, `"max_queued_requests"`, `"health_service":"a\nb","max_queued_requests"`, 1),
		"a queue below none":              strings.Replace(routeJSON, `"max_queued_requests":-1`, `"max_queued_requests":-2`, 1),
		"a number too large":              strings.Replace(routeJSON, `"max_ongoing_requests":5`, `"max_ongoing_requests":1e400`, 1),
		"a service that is a path":        strings.Replace(routeJSON, `serve-a-main`, `../../kv/x`, 1),
		"a version that is a path":        strings.Replace(routeJSON, `0badcafe`, `a/b`, 1),
		"a deployment that is no name":    strings.ReplaceAll(routeJSON, `"main"`, `"Main"`),
		"a negative timeout":              strings.Replace(routeJSON, `"ingress"`, `"request_timeout":-1,"ingress"`, 1),
		"a body below none":               strings.Replace(routeJSON, `"ingress"`, `"max_body_bytes":-1,"ingress"`, 1),
		"more bytes than Consul KV takes": `{"schema":1,"application":"` + strings.Repeat("a", 600<<10) + `"}`,
	}
	for _, prefix := range []string{"", "a", "/a/", "//", "/a//b", "/a/../b", "/.", "/a%2fb", "/a?b", "/a#b", "/a b", "/-", "/-/healthz", `/a\\b`, "/\\u0000", "/ä", "/" + strings.Repeat("a", 2000)} {
		bad["the prefix "+clip(prefix)] = strings.Replace(routeJSON, `"/a"`, `"`+prefix+`"`, 1)
	}
	maps.Copy(bad, badGenerations(t))
	for name, value := range bad {
		t.Run("refuses "+name, func(t *testing.T) {
			if _, err := decodeEntry("a", []byte(value)); err == nil {
				t.Error("taken")
			} else if len(err.Error()) > 400 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
	for _, prefix := range []string{"/", "/a", "/a/b.c", "/A_b~c/d-e", "/v1:predict", "/-a"} {
		t.Run("takes the prefix "+prefix, func(t *testing.T) {
			if _, err := decodeEntry("a", []byte(strings.Replace(routeJSON, `"/a"`, `"`+prefix+`"`, 1))); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("takes fields that it does not know", func(t *testing.T) {
		got, err := decodeEntry("a", []byte(strings.Replace(routeJSON, `"ingress"`, `"later":1,"ingress"`, 1)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(route("a"), got); diff != "" {
			t.Error(diff)
		}
	})
}

const routeJSON = `{"schema":1,"cluster_id":"c1","application":"a","route_prefix":"/a","ingress":"main",` +
	`"deployments":{"main":{"service":"serve-a-main","version":"0badcafe","max_ongoing_requests":5,"max_queued_requests":-1}}}`

func FuzzDecodeEntry(f *testing.F) {
	f.Add([]byte(routeJSON))
	f.Add([]byte(rollingJSON))
	f.Add([]byte(`{"schema":1}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		r, err := decodeEntry("a", value)
		if err != nil {
			return
		}
		again, err := encodeEntry(r)
		if err != nil {
			t.Fatalf("read %q, and cannot write it: %v", value, err)
		}
		back, err := decodeEntry("a", again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, back, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	})
}
