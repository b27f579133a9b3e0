package proctable

import (
	"net"
	"net/netip"
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
	sees(t, address, []connection{{peer: net.IPv4(127, 0, 0, 1).To4()}})
	if err = client.Close(); err != nil {
		t.Fatal(err)
	}
	sees(t, address, []connection{{peer: net.IPv4(127, 0, 0, 1).To4(), left: true}})
	if err = server.Close(); err != nil {
		t.Fatal(err)
	}
	sees(t, address, nil)
	if err = l.Close(); err != nil {
		t.Fatal(err)
	}
	seen, err := LookAtSockets()
	if _, listening := to(seen, address); listening || err != nil {
		t.Errorf("%v, %v: want nothing of an address that nothing listens on", seen, err)
	}
}

// connection is one, as EachTo tells of it.
type connection struct {
	peer net.IP
	left bool
}

func to(seen Sockets, address string) (list []connection, listening bool) {
	listening = seen.EachTo(address, func(from netip.AddrPort, left bool) {
		list = append(list, connection{from.Addr().AsSlice(), left})
	})
	return list, listening
}

// sees waits until the kernel has done what was asked of it.
func sees(t *testing.T, address string, want []connection) {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		seen, err := LookAtSockets()
		if err != nil {
			t.Fatal(err)
		}
		found, listening := to(seen, address)
		diff := cmp.Diff(want, found, cmp.AllowUnexported(connection{}))
		if diff == "" && listening {
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
	seen := sort(parseSockets(text))
	want := []connection{{peer: net.IPv4(10, 0, 0, 2).To4(), left: true}, {peer: net.IPv4(10, 0, 0, 3).To4()}}
	found, listening := to(seen, "127.0.0.1:8000")
	if diff := cmp.Diff(want, found, cmp.AllowUnexported(connection{})); diff != "" || !listening {
		t.Errorf("listening %t, -want +got\n%s", listening, diff)
	}
	for _, address := range []string{"host:8000", "127.0.0.1:8001", "127.0.0.2:8000"} {
		if found, listening := to(seen, address); found != nil || listening {
			t.Errorf("%s: %v, listening %t", address, found, listening)
		}
	}
}
