package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
)

// benchReplica answers every request with the same small JSON, at the least
// cost, so that what is measured is the proxy.
func benchReplica(b *testing.B) string {
	b.Helper()
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{\"answer\": 42.00}")
	return rawReplica(b, func(nc net.Conn, br *bufio.Reader) {
		for {
			length := 0
			for {
				line, err := br.ReadSlice('\n')
				if err != nil {
					return
				}
				if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
					length, _ = strconv.Atoi(string(bytes.TrimSpace(v)))
				}
				if len(line) == 2 {
					break
				}
			}
			if _, err := br.Discard(length); err != nil {
				return
			}
			if _, err := nc.Write(answer); err != nil {
				return
			}
		}
	})
}

// BenchmarkForward compares the proxy with httputil.ReverseProxy over real
// sockets in one run: trust the ratio. The time has the client's and the
// replica's share in it, which is the same for both.
func BenchmarkForward(b *testing.B) {
	address := benchReplica(b)
	r := start(b, app{ongoing: 1000, queued: -1, addresses: []string{address}}.view())
	o := oracle(b, address)
	for _, kind := range []struct{ name, request string }{
		{"GET", "GET /app/x HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"},
		{"POST of 4 KiB", "POST /app/x HTTP/1.1\r\nHost: bench\r\nContent-Length: 4096\r\n\r\n" + string(make([]byte, 4096))},
	} {
		for _, through := range []struct{ name, addr string }{
			{"none", address}, {"proxy", r.addr}, {"ReverseProxy", o.Listener.Addr().String()},
		} {
			b.Run(fmt.Sprintf("%s/%s", kind.name, through.name), func(b *testing.B) {
				b.ReportAllocs()
				b.SetParallelism(16)
				b.RunParallel(func(pb *testing.PB) { exchangeLoop(b, pb, through.addr, kind.request) })
			})
		}
	}
}

func exchangeLoop(b *testing.B, pb *testing.PB, addr, request string) {
	b.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		b.Error(err)
		return
	}
	defer nc.Close()
	br := bufio.NewReader(nc)
	send := []byte(request)
	for pb.Next() {
		if _, err := nc.Write(send); err != nil {
			b.Error(err)
			return
		}
		for first := true; ; first = false {
			line, err := br.ReadSlice('\n')
			if err != nil || (first && !bytes.Contains(line, []byte(" 200 "))) {
				b.Errorf("%q %v", line, err)
				return
			}
			if len(line) == 2 {
				break
			}
		}
		if _, err := br.Discard(17); err != nil {
			b.Error(err)
			return
		}
	}
}

// BenchmarkStream measures one server-sent event through the proxy.
func BenchmarkStream(b *testing.B) {
	next := make(chan struct{})
	const data = "data: {\"token\": \"hello\"}\n\n"
	event := fmt.Appendf(nil, "%x\r\n%s\r\n", len(data), data)
	address := rawReplica(b, func(nc net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		fmt.Fprint(nc, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
		for range next {
			if _, err := nc.Write(event); err != nil {
				return
			}
		}
		fmt.Fprint(nc, "0\r\n\r\n")
	})
	for _, kind := range []string{"proxy", "ReverseProxy"} {
		b.Run(kind, func(b *testing.B) {
			next = make(chan struct{})
			addr := ""
			if kind == "proxy" {
				addr = start(b, app{ongoing: 1, queued: -1, addresses: []string{address}}.view()).addr
			} else {
				addr = oracle(b, address).Listener.Addr().String()
			}
			nc := dial(b, addr)
			fmt.Fprint(nc, "GET /app HTTP/1.1\r\nHost: bench\r\n\r\n")
			res, err := http.ReadResponse(bufio.NewReader(nc), nil)
			if err != nil {
				b.Fatal(err)
			}
			buf := make([]byte, len(data))
			b.ReportAllocs()
			for b.Loop() {
				next <- struct{}{}
				if _, err := io.ReadFull(res.Body, buf); err != nil {
					b.Fatal(err)
				}
			}
			close(next)
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		})
	}
}
