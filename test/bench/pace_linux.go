package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// paceConnections is how many connections a paced load has.
const paceConnections = 64

// pace sends requests at a fixed rate, whether or not earlier ones have been
// answered: an open loop. What a request took counts from when it was due, so
// that a proxy that stalls is charged for all who would have come meanwhile,
// as wrk2 does it.
func pace(path string) func(context.Context, turn) (measured, error) {
	return func(ctx context.Context, t turn) (measured, error) {
		due := make(chan time.Time, int(t.rate*t.duration.Seconds())+1)
		workers := make([]pacer, paceConnections)
		request := paceRequest(t, path)
		var all sync.WaitGroup
		for i := range workers {
			w := &workers[i]
			if err := w.dial(ctx, t.address); err != nil {
				return measured{}, err
			}
			all.Go(func() { w.run(due, request) })
		}
		begun := time.Now()
		schedule(ctx, due, begun, t)
		all.Wait()
		var m measured
		var took []time.Duration
		for _, w := range workers {
			took = append(took, w.took...)
			m.Failed += w.failed
		}
		m.summarise(took)
		m.Wall = time.Since(begun)
		return m, nil
	}
}

func paceRequest(t turn, path string) []byte {
	return fmt.Appendf(nil, "GET %s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n", t.prefix, path, t.address)
}

// schedule says when each request is due.
func schedule(ctx context.Context, due chan<- time.Time, begun time.Time, t turn) {
	defer close(due)
	total := int(t.rate * t.duration.Seconds())
	interval := time.Duration(float64(time.Second) / t.rate)
	for n := range total {
		at := begun.Add(time.Duration(n) * interval)
		if ctx.Err() != nil {
			return
		}
		if wait := time.Until(at); wait > 0 {
			// Go's own timers are good to a millisecond; this is good to 50 µs.
			pause := syscall.NsecToTimespec(int64(wait))
			_ = syscall.Nanosleep(&pause, nil) // a signal makes one request early
		}
		due <- at
	}
}

// pacer is one connection of a paced load.
type pacer struct {
	nc     net.Conn
	br     *bufio.Reader
	took   []time.Duration
	failed int64
}

func (p *pacer) dial(ctx context.Context, address string) error {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	p.nc, p.br = nc, bufio.NewReader(nc)
	return nil
}

func (p *pacer) run(due <-chan time.Time, request []byte) {
	defer p.nc.Close()
	for at := range due {
		if err := p.exchange(request); err != nil {
			p.failed++
			if p.dial(context.Background(), p.nc.RemoteAddr().String()) != nil {
				return
			}
			continue
		}
		p.took = append(p.took, time.Since(at))
	}
}

// errStatus is any other answer.
var errStatus = errors.New("the status is not 200")

// exchange sends one request and reads an answer that has a length.
func (p *pacer) exchange(request []byte) error {
	if err := p.nc.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := p.nc.Write(request); err != nil {
		return err
	}
	length := 0
	for first := true; ; first = false {
		line, err := p.br.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.Contains(line, []byte(" 200 ")) {
			return errStatus
		}
		if len(line) <= 2 {
			break
		}
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
	_, err := p.br.Discard(length)
	return err
}

// streams is how many clients read server-sent events at a time.
const streams = 64

// readStreams reads streams of events. An event's time counts from when the
// backend sent it.
func readStreams(ctx context.Context, t turn) (measured, error) {
	ctx, cancel := context.WithTimeout(ctx, t.duration)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var took []time.Duration
	var failed int64
	begun := time.Now()
	var all sync.WaitGroup
	for range streams {
		all.Go(func() {
			seen, err := readStream(ctx, client, "http://"+t.address+t.prefix+pathStream)
			mu.Lock()
			defer mu.Unlock()
			took = append(took, seen...)
			if err != nil && ctx.Err() == nil {
				failed++
			}
		})
	}
	all.Wait()
	m := measured{Failed: failed, Wall: time.Since(begun)}
	m.summarise(took)
	return m, nil
}

// readStream reads events until ctx ends, and returns what each took.
func readStream(ctx context.Context, client *http.Client, url string) ([]time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, errStatus
	}
	var took []time.Duration
	br := bufio.NewReader(res.Body)
	for {
		line, err := br.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return took, io.ErrUnexpectedEOF // it does not end by itself
		}
		if err != nil {
			return took, err
		}
		if rest, ok := bytes.CutPrefix(line, []byte(`data: {"sent": `)); ok {
			digits, _, _ := bytes.Cut(rest, []byte(","))
			sent, err := strconv.ParseInt(string(digits), 10, 64)
			if err != nil {
				return took, err
			}
			took = append(took, time.Duration(time.Now().UnixNano()-sent))
		}
	}
}
