package replicacall

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// replica starts a server that speaks HTTP/1.1 or, without TLS, HTTP/2.
func replica(t *testing.T, http2 bool, answer http.HandlerFunc) (address string) {
	t.Helper()
	server := httptest.NewUnstartedServer(answer)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(!http2)
	server.Config.Protocols.SetUnencryptedHTTP2(http2)
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func TestAConfigIsPosted(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP/2 %v", http2), func(t *testing.T) {
			got := make(chan string, 1)
			address := replica(t, http2, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got <- strings.Join([]string{r.Method, r.RequestURI, r.Header.Get("Content-Type"), r.Header.Get("Serve-Config-Hash"), string(body)}, " ")
				w.WriteHeader(http.StatusNoContent)
			})
			refused, err := New().Reconfigure(t.Context(), http2, address, "/config?of=mine", `{"a":1}`, "0a1b2c3d")
			if refused != "" || err != nil {
				t.Fatalf("refused %q, %v", refused, err)
			}
			if want := `POST /config?of=mine application/json 0a1b2c3d {"a":1}`; <-got != want {
				t.Errorf("it is not asked %q", want)
			}
		})
	}
}

func TestWhatIsNoSuccessIsARefusal(t *testing.T) {
	for name, c := range map[string]struct {
		status     int
		body, want string
	}{
		"an error in words":    {422, "threshold: 3 is above 1\nand more", "POST /config was answered with 422: threshold: 3 is above 1"},
		"an error without any": {500, "", "POST /config was answered with 500"},
		"empty lines first":    {400, "\n \n no\n", "POST /config was answered with 400: no"},
		"no such path":         {404, "<html>\x1b[2J\xff", "POST /config was answered with 404: <html>?[2J?"},
		"a long one":           {400, strings.Repeat("x", 9000), "POST /config was answered with 400: " + strings.Repeat("x", 200) + "..."},
	} {
		t.Run(name, func(t *testing.T) {
			address := replica(t, false, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			refused, err := New().Reconfigure(t.Context(), false, address, "config", "{}", "h")
			if refused != c.want || err != nil {
				t.Errorf("got %q, %v; want %q", refused, err, c.want)
			}
		})
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	other := replica(t, false, func(http.ResponseWriter, *http.Request) { t.Error("it was followed") })
	address := replica(t, false, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+other+"/", http.StatusTemporaryRedirect)
	})
	refused, err := New().Reconfigure(t.Context(), false, address, "/config", "{}", "h")
	if !strings.Contains(refused, "307") || err != nil {
		t.Errorf("got %q, %v", refused, err)
	}
}

func TestWhoCannotBeAsked(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	hung := make(chan struct{})
	defer close(hung)
	silent := replica(t, false, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hung:
		case <-r.Context().Done():
		}
	})
	for name, c := range map[string]struct{ address, want string }{
		"nobody listens":                {gone.Listener.Addr().String(), "connection refused"},
		"it does not answer":            {silent, "did not answer in time"},
		"a link-local one":              {"169.254.169.254:80", "link-local"},
		"and so in IPv6":                {"[fe80::1]:80", "link-local"},
		"no address":                    {"", "no Host"},
		"an address that is no address": {"a b:80", "invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			refused, err := New().Reconfigure(ctx, false, c.address, "/config", "{}", "h")
			if refused != "" || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, %v; want %q", refused, err, c.want)
			}
		})
	}
}

func TestWhoBreaksOffMayBeAskedAgain(t *testing.T) {
	address := replica(t, false, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	refused, err := New().Reconfigure(t.Context(), false, address, "/config", "{}", "h")
	if refused != "" || !errors.Is(err, io.EOF) {
		t.Errorf("got %q, %v", refused, err)
	}
}
