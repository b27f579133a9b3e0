//go:build unix

package h1

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// answer is what a handler costs that does next to nothing.
func answer(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{"46"}
	_, _ = io.WriteString(w, `{"answer": 42, "question": "what was it again"}`[:46])
}

// serveNet serves h with net/http's server.
func serveNet(tb testing.TB, h http.Handler) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	tb.Cleanup(func() {
		_ = s.Close()
		<-done
	})
	return l.Addr().String()
}

// BenchmarkServe compares the two servers over loopback: trust the ratio. cpu-us
// is the whole process's CPU for one request, less what the client costs, which
// is measured with a server that only reads and writes.
func BenchmarkServe(b *testing.B) {
	requests := map[string]string{
		"GET":  "GET /app/x?a=b HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n",
		"POST": "POST /app/x HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench/1.0\r\nContent-Type: application/json\r\nContent-Length: 1024\r\n\r\n" + string(bytes.Repeat([]byte("x"), 1024)),
	}
	_, ours := serveTCP(b, http.HandlerFunc(answer))
	servers := []struct{ name, addr string }{{"floor", floor(b)}, {"h1", ours}, {"net-http", serveNet(b, http.HandlerFunc(answer))}}
	for _, kind := range []string{"GET", "POST"} {
		for _, s := range servers {
			b.Run(fmt.Sprintf("%s/%s", kind, s.name), func(b *testing.B) {
				b.ReportAllocs()
				b.SetParallelism(32)
				before := cpu()
				b.RunParallel(func(pb *testing.PB) { ask(b, pb, s.addr, requests[kind]) })
				b.ReportMetric(float64((cpu()-before).Nanoseconds())/1e3/float64(b.N), "cpu-us/op")
			})
		}
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// floor answers without looking at what it reads.
func floor(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	res := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 46\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n" + `{"answer": 42, "question": "what was it again"}`[:46])
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				buf := make([]byte, 4<<10)
				for {
					if _, err := nc.Read(buf); err != nil {
						return
					}
					if _, err := nc.Write(res); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func ask(b *testing.B, pb *testing.PB, addr, request string) {
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
		for {
			line, err := br.ReadSlice('\n')
			if err != nil {
				b.Error(err)
				return
			}
			if len(line) == 2 {
				break
			}
		}
		if _, err := br.Discard(46); err != nil {
			b.Error(err)
			return
		}
	}
}

// BenchmarkIdle says what an idle connection holds that has had a request: heap
// and stacks of the process, less the client's half, which is only a socket.
func BenchmarkIdle(b *testing.B) {
	const count = 2000
	_, ours := serveTCP(b, http.HandlerFunc(answer))
	for _, s := range []struct{ name, addr string }{{"h1", ours}, {"net-http", serveNet(b, http.HandlerFunc(answer))}} {
		b.Run(s.name, func(b *testing.B) {
			for b.Loop() {
				before := held()
				fds := make([]int, count)
				for i := range fds {
					fds[i] = idleClient(b, s.addr)
				}
				time.Sleep(3 * idleTicks * tickLength)
				b.ReportMetric(float64(held()-before)/count, "B/conn")
				for _, fd := range fds {
					_ = syscall.Close(fd)
				}
				time.Sleep(tickLength)
			}
		})
	}
}

func held() int64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// idleClient has one request answered on a connection, and keeps only its
// descriptor.
func idleClient(b *testing.B, addr string) int {
	b.Helper()
	_, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		b.Fatal(err)
	}
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: n, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		b.Fatal(err)
	}
	if _, err := syscall.Write(fd, []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil {
		b.Fatal(err)
	}
	var buf [4 << 10]byte
	if _, err := syscall.Read(fd, buf[:]); err != nil {
		b.Fatal(err)
	}
	return fd
}
