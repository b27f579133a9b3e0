package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
)

// pathEcho is a method that answers with the message that it is sent.
const pathEcho = "/bench.Echo/Say"

// echoMessage is the one message of a request, of 46 bytes as the JSON has, as
// gRPC frames it.
func echoMessage() []byte {
	message := bytes.Repeat([]byte("x"), 46)
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

// serveGRPC is the child that answers in place of replicas that speak gRPC.
func serveGRPC(address string) error {
	l, err := net.Listen("tcp", address) //nolint:noctx // it listens for as long as the process lives
	if err != nil {
		return err
	}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:gosec // a timeout is not what is measured
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		h := w.Header()
		h["Content-Type"], h["Trailer"] = []string{"application/grpc"}, []string{"Grpc-Status"}
		_, _ = w.Write(body) // who has left needs no answer
		h["Grpc-Status"] = []string{"0"}
	})}
	return s.Serve(l)
}

// callGRPC loads with h2load, with calls of one message each way.
func callGRPC(clients, streams int) func(context.Context, turn) (measured, error) {
	return func(ctx context.Context, t turn) (measured, error) {
		message := filepath.Join(t.dir, "message")
		if err := os.WriteFile(message, echoMessage(), 0o600); err != nil {
			return measured{}, err
		}
		if err := callOnce(ctx, "http://"+t.address+pathEcho); err != nil {
			return measured{}, err
		}
		return h2load(clients, streams, pathEcho, "-d", message, "-H", "content-type: application/grpc", "-H", "te: trailers")(ctx, t)
	}
}

// callOnce makes sure that calls are answered: h2load looks only at HTTP's
// status, which is 200 for errors as well.
func callOnce(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(echoMessage()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, echoMessage()) || res.Trailer.Get("Grpc-Status") != "0" {
		return fmt.Errorf("a call brought %s, %q, %v, %v", res.Status, got, res.Header, res.Trailer)
	}
	return nil
}

func haproxyGRPC(program string, i instance) ([]string, error) {
	path, err := i.write("haproxy.cfg", haproxyHead+fmt.Sprintf(`frontend in
  bind %s
  bind %s proto h2
  default_backend app
backend app
  balance leastconn
  option forwardfor
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %%[req.hdr(host)]
  http-request set-header X-Request-Id %%[uuid]
%s`, i.Address, i.H2, i.each(fmt.Sprintf("  server r%%d %%s maxconn %d proto h2\n", maxOngoing))))
	return []string{program, "-db", "-f", path}, err
}

func traefikGRPC(program string, i instance) ([]string, error) {
	path, err := i.write("routes.yml", fmt.Sprintf(`http:
  routers:
    app: {rule: "PathPrefix(`+"`/`"+`)", service: app}
  services:
    app:
      loadBalancer:
        servers:
%s`, i.each("          - {url: \"h2c://%[2]s\"} # %[1]d\n")))
	return traefikArgv(program, i, path), err
}

// serveFront answers by itself, behind the server that our proxy has in front:
// what a request costs before the proxy has it.
func serveFront(ctx context.Context, i instance) error {
	answer := []byte(jsonAnswer[len(jsonAnswer)-jsonLength:])
	return serveProxy(ctx, i, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h["Content-Type"], h["Content-Length"] = []string{"application/json"}, []string{"46"}
		_, _ = w.Write(answer) // who has left needs no answer
	}))
}
