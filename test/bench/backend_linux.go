package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"
)

// What the backend serves, below any prefix.
const (
	pathJSON   = "/json"   // 46 bytes of JSON, also to a POST
	pathBig    = "/big"    // bigSize bytes
	pathStream = "/stream" // server-sent events, eventRate a second
)

const (
	bigSize   = 10 << 20
	eventRate = 200
)

// serveBackend is the child that answers in place of replicas, as cheaply as
// plain Go can: it reads of a request what it must.
func serveBackend(address string) error {
	l, err := net.Listen("tcp", address) //nolint:noctx // it listens for as long as the process lives
	if err != nil {
		return err
	}
	b := &backend{big: bytes.Repeat([]byte("0123456789abcdef"), 64<<10/16)}
	go b.tick()
	for {
		nc, err := l.Accept()
		if err != nil {
			return err
		}
		go b.serve(nc)
	}
}

type backend struct {
	big []byte

	mu      sync.Mutex
	streams map[net.Conn]struct{}
}

const (
	jsonLength = 46
	jsonAnswer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 46\r\n\r\n" +
		`{"answer": 42.000000, "model": "m", "n": 1234}`
	streamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)

func (b *backend) serve(nc net.Conn) {
	defer nc.Close()
	br := bufio.NewReader(nc)
	answer := []byte(jsonAnswer)
	for {
		path, err := readHead(br)
		if err != nil {
			return
		}
		switch path {
		case pathBig:
			err = b.sendBig(nc)
		case pathStream:
			b.stream(nc, br)
			return
		default:
			_, err = nc.Write(answer)
		}
		if err != nil {
			return
		}
	}
}

// readHead reads one request with its body and returns the last segment of its
// path.
func readHead(br *bufio.Reader) (path string, err error) {
	line, err := br.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	for _, known := range []string{pathBig, pathStream} {
		if bytes.Contains(line, []byte(known+" ")) {
			path = known
		}
	}
	length := 0
	for {
		line, err := br.ReadSlice('\n')
		if err != nil {
			return "", err
		}
		if len(line) <= 2 {
			break
		}
		const name = "content-length:"
		if len(line) > len(name) && (line[0]|0x20) == 'c' && bytes.EqualFold(line[:len(name)], []byte(name)) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(name):]))); err != nil {
				return "", err
			}
		}
		if bytes.HasPrefix(line, []byte("Transfer-Encoding:")) {
			return "", errors.New("the backend reads no chunks")
		}
	}
	_, err = br.Discard(length)
	return path, err
}

func (b *backend) sendBig(nc net.Conn) error {
	if _, err := fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", bigSize); err != nil {
		return err
	}
	for range bigSize / len(b.big) {
		if _, err := nc.Write(b.big); err != nil {
			return err
		}
	}
	return nil
}

// stream has tick send events until the client leaves.
func (b *backend) stream(nc net.Conn, br *bufio.Reader) {
	if _, err := nc.Write([]byte(streamHead)); err != nil {
		return
	}
	b.mu.Lock()
	if b.streams == nil {
		b.streams = map[net.Conn]struct{}{}
	}
	b.streams[nc] = struct{}{}
	b.mu.Unlock()
	_, _ = br.ReadByte() // it returns when the client leaves
	b.mu.Lock()
	delete(b.streams, nc)
	b.mu.Unlock()
}

// tick sends every stream its events. Each holds the time of its sending.
func (b *backend) tick() {
	ticker := time.NewTicker(time.Second / eventRate)
	for range ticker.C {
		b.mu.Lock()
		for nc := range b.streams {
			data := fmt.Sprintf("data: {\"sent\": %d, \"token\": \"hello\"}\n\n", time.Now().UnixNano())
			if _, err := fmt.Fprintf(nc, "%x\r\n%s\r\n", len(data), data); err != nil {
				delete(b.streams, nc)
			}
		}
		b.mu.Unlock()
	}
}

// runChild runs this program as one of the parts of a measurement.
func runChild(kind string, args []string) error {
	if len(args) < 1 {
		return errors.New("a child needs its arguments")
	}
	switch kind {
	case childBackend:
		return serveBackend(args[0])
	case childGRPC:
		return serveGRPC(args[0])
	case childFront:
		return runGo(args, serveFront)
	case childOurs:
		return runGo(args, serveOurs)
	case childReverseProxy:
		return runGo(args, serveReverseProxy)
	}
	return fmt.Errorf("no child %q", kind)
}

const (
	childPrefix       = "child-"
	childBackend      = childPrefix + "backend"
	childGRPC         = childPrefix + "grpc"
	childFront        = childPrefix + "front"
	childOurs         = childPrefix + "ours"
	childReverseProxy = childPrefix + "reverse-proxy"
)
