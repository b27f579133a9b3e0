// Echo is a server to measure with: its answers are as large and as slow as
// they are asked to be.
//
//	GET  /?sleep=100ms&bytes=1000      JSON, after a while, padded to a size
//	POST /                             the body, as it came
//	GET  /events?n=10&interval=10ms    server-sent events
//	GET  /socket                       a WebSocket, whose messages come back
//	GET  /healthz                      the health check
package main

import (
	"bufio"
	"context"
	"crypto/sha1" //nolint:gosec // as WebSocket has it; it protects nothing
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Bounds on what one request can ask for.
const (
	maxSleep  = time.Minute
	maxBytes  = 64 << 20
	maxEvents = 1_000_000
	maxFrame  = 1 << 20 // bytes of a WebSocket's
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	port := os.Getenv("PORT")
	if port == "" {
		return errors.New("set PORT to the port to listen on")
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	var sockets sync.WaitGroup
	server := &http.Server{Addr: ":" + port, Handler: routes(stop, &sockets), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	log.Printf("listening on port %s", port)
	select {
	case err := <-failed:
		return err
	case <-stop.Done():
	}
	// What has begun is finished; Nomad ends what takes too long.
	err := server.Shutdown(context.Background())
	sockets.Wait() // of which the server knows nothing any more
	return err
}

func routes(stop context.Context, sockets *sync.WaitGroup) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { send(w, []byte("ok\n")) })
	mux.HandleFunc("GET /events", events)
	mux.HandleFunc("GET /socket", func(w http.ResponseWriter, r *http.Request) {
		sockets.Add(1)
		defer sockets.Done()
		socket(stop, w, r)
	})
	mux.HandleFunc("POST /", echo)
	mux.HandleFunc("GET /{$}", answer)
	return mux
}

func answer(w http.ResponseWriter, r *http.Request) {
	pause, err := duration(r, "sleep", 0)
	if err != nil {
		refuse(w, err)
		return
	}
	size, err := number(r, "bytes", 0, maxBytes)
	if err != nil {
		refuse(w, err)
		return
	}
	if !wait(r.Context(), pause) {
		return
	}
	body := map[string]string{"replica": os.Getenv("SERVE_REPLICA"), "version": os.Getenv("SERVE_VERSION")}
	text, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	// {"pad":"..."} as long as it takes to get to the size.
	if missing := size - len(text) - len(`,"pad":""`); missing >= 0 {
		body["pad"] = strings.Repeat("x", missing)
		if text, err = json.Marshal(body); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	send(w, text)
}

func echo(w http.ResponseWriter, r *http.Request) {
	pause, err := duration(r, "sleep", 0)
	if err != nil {
		refuse(w, err)
		return
	}
	if !wait(r.Context(), pause) {
		return
	}
	if kind := r.Header.Get("Content-Type"); kind != "" {
		w.Header().Set("Content-Type", kind)
	}
	if r.ContentLength >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if _, err := io.Copy(w, r.Body); err != nil {
		panic(http.ErrAbortHandler) // too late for a status: the client sees the connection break
	}
}

func events(w http.ResponseWriter, r *http.Request) {
	n, err := number(r, "n", 10, maxEvents)
	if err != nil {
		refuse(w, err)
		return
	}
	interval, err := duration(r, "interval", 10*time.Millisecond)
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	flush := http.NewResponseController(w)
	for i := range n {
		if i > 0 && !wait(r.Context(), interval) {
			return
		}
		if _, err := fmt.Fprintf(w, "id: %d\ndata: {\"n\":%d}\n\n", i, i); err != nil {
			return
		}
		if err := flush.Flush(); err != nil {
			return
		}
	}
}

// What begins a frame of a WebSocket (RFC 6455).
const (
	final, ping, pong, closing = 0x80, 0x9, 0xa, 0x8
	goingAway                  = 1001 // as a close says why
)

// socket sends each frame of a WebSocket back, until the client closes it or
// this server stops.
func socket(stop context.Context, w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Sec-WebSocket-Key")
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || key == "" {
		w.Header().Set("Upgrade", "websocket")
		http.Error(w, "this is a WebSocket", http.StatusUpgradeRequired)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // as above
	send(conn, []byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "+
		base64.StdEncoding.EncodeToString(sum[:])+"\r\n\r\n"))
	defer context.AfterFunc(stop, func() { _ = conn.SetReadDeadline(time.Now()) })() // an error ends the read too
	for {
		first, payload, err := readFrame(buffered.Reader)
		switch {
		case stop.Err() != nil:
			send(conn, frame(final|closing, binary.BigEndian.AppendUint16(nil, goingAway)))
			return
		case err != nil:
			return
		case first&0xf == ping:
			first = final | pong
		case first&0xf == pong:
			continue
		}
		send(conn, frame(first, payload))
		if first&0xf == closing {
			return
		}
	}
}

// readFrame reads a frame as clients send them, whose payload is masked.
func readFrame(r *bufio.Reader) (first byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	size := uint64(head[1] & 0x7f)
	if extra := map[uint64]int{126: 2, 127: 8}[size]; extra > 0 {
		var long [8]byte
		if _, err := io.ReadFull(r, long[8-extra:]); err != nil {
			return 0, nil, err
		}
		size = binary.BigEndian.Uint64(long[:])
	}
	if head[1]&0x80 == 0 || size > maxFrame {
		return 0, nil, errors.New("a frame without a mask, or too large")
	}
	masked := make([]byte, 4+size)
	if _, err := io.ReadFull(r, masked); err != nil {
		return 0, nil, err
	}
	mask, payload := masked[:4], masked[4:]
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	return head[0], payload, nil
}

// frame is one as servers send them.
func frame(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n)) //nolint:gosec // it fits
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n)) //nolint:gosec // it is not negative
	}
	return append(b, payload...)
}

// duration reads a parameter such as "100ms".
func duration(r *http.Request, name string, absent time.Duration) (time.Duration, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return absent, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > maxSleep {
		return 0, fmt.Errorf("%s is a duration from 0s to %s, such as 100ms", name, maxSleep)
	}
	return d, nil
}

func number(r *http.Request, name string, absent, most int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return absent, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > most {
		return 0, fmt.Errorf("%s is a number from 0 to %d", name, most)
	}
	return n, nil
}

// wait pauses, and says whether the client is still there.
func wait(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func refuse(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	text, err := json.Marshal(map[string]string{"error": err.Error()})
	if err == nil {
		send(w, text)
	}
}

// send writes an answer. That a client is gone is not this server's concern.
func send(w io.Writer, text []byte) {
	if _, err := w.Write(text); err != nil {
		return
	}
}
