package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/loads"
)

// reportServer is a server that answers reports as it is told to.
type reportServer struct {
	*httptest.Server
	status atomic.Int64
	asked  atomic.Int64
	token  atomic.Value
}

func newReportServer(t *testing.T, status int) *reportServer {
	t.Helper()
	s := &reportServer{}
	s.status.Store(int64(status))
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		s.token.Store(r.Header.Get("X-Serve-Nomad-Token"))
		code := api.CodeNoLeader
		if s.status.Load() == http.StatusBadRequest {
			code = api.CodeInvalid
		}
		w.WriteHeader(int(s.status.Load()))
		_ = json.NewEncoder(w).Encode(api.ErrorResponse{Error: "the report is no good", Code: code})
	}))
	t.Cleanup(s.Close)
	return s
}

func TestReportsGoToTheServerThatTakesThem(t *testing.T) {
	gone := newReportServer(t, 200)
	gone.Close()
	electing, good := newReportServer(t, 503), newReportServer(t, 200)
	sender, err := newLoadSender([]string{gone.URL, electing.URL, good.URL}, "secret")
	if err != nil {
		t.Fatal(err)
	}
	send := func() error { return sender.SendLoads(t.Context(), loads.Report{Schema: loads.Schema}) }
	for range 3 {
		if err := send(); err != nil {
			t.Fatal(err)
		}
	}
	if electing.asked.Load() != 1 || good.asked.Load() != 3 || good.token.Load() != "secret" {
		t.Errorf("asked %d and %d times, with token %q", electing.asked.Load(), good.asked.Load(), good.token.Load())
	}

	good.status.Store(503)
	electing.status.Store(200)
	if err := send(); err != nil || electing.asked.Load() != 2 {
		t.Errorf("the next server was asked %d times, error %v", electing.asked.Load(), err)
	}

	electing.status.Store(400)
	before := good.asked.Load()
	if err := send(); err == nil || !strings.Contains(err.Error(), "no good") || good.asked.Load() != before {
		t.Errorf("a refused report: error %v, then %d more", err, good.asked.Load()-before)
	}

	electing.status.Store(503)
	good.status.Store(503)
	if err = send(); err == nil {
		t.Error("no server took it, and there is no error")
	}
	wantAll(t, "the error", err.Error(), gone.URL, electing.URL, good.URL)
	if strings.Contains(err.Error(), api.AddressEnv) {
		t.Errorf("it advises what only a command line can do: %s", err)
	}
}

// hanging is a transport to servers of which those named hang.
type hanging struct{ host string }

func (h hanging) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == h.host {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return &http.Response{StatusCode: 200, Body: http.NoBody, Header: http.Header{}}, nil
}

func TestAServerThatHangsHoldsUpNoReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sender := &loadSender{}
		for _, host := range []string{"a", "b"} {
			client, err := api.NewClient(api.ClientConfig{Address: host, HTTPClient: &http.Client{Transport: hanging{"a"}}})
			if err != nil {
				t.Fatal(err)
			}
			sender.servers = append(sender.servers, client)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		began := time.Now()
		if err := sender.SendLoads(ctx, loads.Report{}); err != nil || time.Since(began) > time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		if err := sender.SendLoads(ctx, loads.Report{}); err != nil || time.Since(began) > time.Second {
			t.Errorf("the next one, after %s: %v", time.Since(began), err)
		}
	})
}

func TestProxyName(t *testing.T) {
	for address, want := range map[string]string{"0.0.0.0:80": "n1:80", ":8000": "n1:8000"} {
		cfg := defaultConfig()
		cfg.Name, cfg.Proxy.Address = "n1", address
		if got := proxyName(cfg); got != want {
			t.Errorf("%s: got %s, want %s", address, got, want)
		}
	}
}

func TestReportsGoToThisFilesServerUnlessItSaysOtherwise(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:9999": "http://127.0.0.1:9999", "10.0.0.1:80": "http://10.0.0.1:80",
		":8265": "http://127.0.0.1:8265", "0.0.0.0:8265": "http://127.0.0.1:8265", "[::]:8265": "http://127.0.0.1:8265",
	} {
		cfg := defaultConfig()
		cfg.AllowInsecureBind, cfg.HTTP.Address = true, address
		if err := cfg.complete(); err != nil || len(cfg.Proxy.Servers) != 1 || cfg.Proxy.Servers[0] != want {
			t.Errorf("%s: got %q, error %v", address, cfg.Proxy.Servers, err)
		}
	}
}
