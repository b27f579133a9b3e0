package nomaddev

import (
	"errors"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

func TestCheckPortNamesWhoHasIt(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	err = CheckPort(t.Context(), "127.0.0.1", port)
	var busy *PortError
	if !errors.As(err, &busy) {
		t.Fatalf("got %v, want a PortError", err)
	}
	if runtime.GOOS == "linux" && !strings.Contains(busy.Error(), "(pid "+strconv.Itoa(os.Getpid())+")") {
		t.Errorf("%q does not name this process", busy)
	}
	if err = l.Close(); err != nil {
		t.Fatal(err)
	}
	if err = CheckPort(t.Context(), "127.0.0.1", port); err != nil {
		t.Errorf("got %v for a port that is free again", err)
	}
}

func TestCheckPortTellsOtherTrouble(t *testing.T) {
	err := CheckPort(t.Context(), "192.0.2.1", 1) // no address of this machine
	var busy *PortError
	if err == nil || errors.As(err, &busy) {
		t.Errorf("got %v, want an error that is no PortError", err)
	}
}

func TestFreePortIsNotTaken(t *testing.T) {
	first, err := FreePort(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	taken := map[int]bool{}
	for port := singleFirst; port <= singleLast; port++ {
		taken[port] = port != first
	}
	if got, err := FreePort(t.Context(), taken); err != nil || got != first {
		t.Errorf("got %d, %v; want %d, the only one left", got, err, first)
	}
	taken[first] = true
	if got, err := FreePort(t.Context(), taken); err == nil {
		t.Errorf("got %d, want an error: all are taken", got)
	}
}

func TestBlocksDoNotOverlap(t *testing.T) {
	var seen []*Block
	for range 3 {
		b, err := ReserveBlock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := b.Release(); err != nil {
				t.Error(err)
			}
		})
		for _, other := range seen {
			if b.first == other.first {
				t.Errorf("two blocks begin at %d", b.first)
			}
		}
		seen = append(seen, b)
		port, err := b.Port(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		low, high := b.Dynamic()
		if port <= b.first || port >= low || high >= b.first+blockSize {
			t.Errorf("port %d and range %d-%d of the block from %d", port, low, high, b.first)
		}
	}
}

func TestBlockKeepsApartFromPortsInUse(t *testing.T) {
	var apart []int
	for first := blockFirst + blockSize; first <= blockLast; first += blockSize {
		apart = append(apart, first+blockSize-1)
	}
	b, err := ReserveBlock(t.Context(), apart...)
	if err != nil {
		t.Skip(err) // another process has the only block that is left
	}
	if b.first != blockFirst {
		t.Errorf("the block from %d has one of %v", b.first, apart)
	}
	if err = b.Release(); err != nil {
		t.Fatal(err)
	}
	if b, err = ReserveBlock(t.Context(), append(apart, blockFirst)...); err == nil {
		t.Errorf("got the block from %d, want an error: each has a port that is given", b.first)
	}
}
