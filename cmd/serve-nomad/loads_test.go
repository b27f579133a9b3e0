package main

import (
	"context"
	"encoding/json"
	"errors"
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

// slowServers is a transport to servers that answer after a while, or refuse.
type slowServers struct {
	after map[string]time.Duration
	asked atomic.Int64
	open  atomic.Int64
}

func (s *slowServers) RoundTrip(r *http.Request) (*http.Response, error) {
	s.asked.Add(1)
	s.open.Add(1)
	defer s.open.Add(-1)
	after, ok := s.after[r.URL.Host]
	if !ok {
		return nil, errors.New("refused")
	}
	select {
	case <-r.Context().Done():
		return nil, r.Context().Err()
	case <-time.After(after):
		return &http.Response{StatusCode: 200, Body: http.NoBody, Header: http.Header{}}, nil
	}
}

func TestAServerThatHangsHoldsUpNoReport(t *testing.T) {
	const ms, forever = time.Millisecond, time.Hour
	for name, c := range map[string]struct {
		a, b, c       time.Duration // below 0: it refuses
		first, second time.Duration // in which two reports are taken; 0: not at all
		asked         int64         // servers, for both
	}{
		"all are well":             {5 * ms, 5 * ms, 5 * ms, 5 * ms, 5 * ms, 2},
		"the first hangs":          {forever, 5 * ms, 5 * ms, 105 * ms, 5 * ms, 3},
		"two hang":                 {forever, forever, 5 * ms, 205 * ms, 5 * ms, 4},
		"one refuses, one hangs":   {-1, forever, 5 * ms, 105 * ms, 5 * ms, 4},
		"one hangs, one refuses":   {forever, -1, 5 * ms, 105 * ms, 5 * ms, 4},
		"the first is a bit slow":  {150 * ms, 500 * ms, 5 * ms, 150 * ms, 150 * ms, 4},
		"all hang":                 {forever, forever, forever, 0, 0, 6},
		"the last one is too slow": {forever, -1, 800 * ms, 0, 0, 6},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				transport := &slowServers{after: map[string]time.Duration{}}
				sender := &loadSender{}
				for host, after := range map[string]time.Duration{"a": c.a, "b": c.b, "c": c.c} {
					if after >= 0 {
						transport.after[host] = after
					}
				}
				for _, host := range []string{"a", "b", "c"} {
					client, err := api.NewClient(api.ClientConfig{Address: host, HTTPClient: &http.Client{Transport: transport}})
					if err != nil {
						t.Fatal(err)
					}
					sender.servers = append(sender.servers, client)
				}
				for _, want := range []time.Duration{c.first, c.second} {
					ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
					began := time.Now()
					err := sender.SendLoads(ctx, loads.Report{})
					took := time.Since(began)
					cancel()
					if (err == nil) != (want > 0) || (want > 0 && took != want) || took > time.Second {
						t.Errorf("after %s: %v, want %s", took, err, want)
					}
				}
				if transport.asked.Load() != c.asked || transport.open.Load() != 0 {
					t.Errorf("%d asked, want %d; %d still are", transport.asked.Load(), c.asked, transport.open.Load())
				}
			})
		})
	}
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
