package proctable

import (
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestConnectionsAreSeenUntilTheListenerCloses(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux shows the connections of others")
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	address := l.Addr().String()
	client, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	sees(t, address, []Connection{{Peer: net.IPv4(127, 0, 0, 1).To4()}})
	if err = client.Close(); err != nil {
		t.Fatal(err)
	}
	sees(t, address, []Connection{{Peer: net.IPv4(127, 0, 0, 1).To4(), Left: true}})
	if err = server.Close(); err != nil {
		t.Fatal(err)
	}
	sees(t, address, []Connection{})
	if err = l.Close(); err != nil {
		t.Fatal(err)
	}
	found, err := Connections([]string{address})
	if _, ok := found[address]; ok || err != nil {
		t.Errorf("%v, %v: want nothing of an address that nothing listens on", found, err)
	}
}

// sees waits until the kernel has done what was asked of it.
func sees(t *testing.T, address string, want []Connection) {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		found, err := Connections([]string{address})
		if err != nil {
			t.Fatal(err)
		}
		diff := cmp.Diff(want, found[address])
		if diff == "" {
			return
		}
		if time.Since(begin) > 5*time.Second {
			t.Fatalf("connections to %s: -want +got\n%s", address, diff)
		}
	}
}

func TestParseSockets(t *testing.T) {
	text := `  sl  local_address rem_address   st tx_queue rx_queue
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000
   1: 0100007F:1F40 0200000A:C350 08 00000000:00000000
   2: nonsense
   3: 0000000000000000FFFF00000100007F:1F40 0000000000000000FFFF00000300000A:C351 01 00000000
   4: 0000000000000000000000000000ZZ:1F40 0200000A:C350 01
`
	found := connectionsOf([]string{"127.0.0.1:8000", "host:8000"}, parseSockets(text))
	want := map[string][]Connection{"127.0.0.1:8000": {
		{Peer: net.IPv4(10, 0, 0, 2).To4(), Left: true}, {Peer: net.IPv4(10, 0, 0, 3).To4()},
	}}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
