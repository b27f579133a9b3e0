package proctable

import "os"

// Connections returns, for each of these addresses of this machine that a
// process listens on, the connections to it. Those in another network namespace
// are not seen, and such an address is absent.
func Connections(addresses []string) (map[string][]Connection, error) {
	var sockets []socket
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(name)
		if err != nil {
			if name == "/proc/net/tcp6" && os.IsNotExist(err) {
				break // IPv6 is off
			}
			return nil, err
		}
		sockets = append(sockets, parseSockets(string(text))...)
	}
	return connectionsOf(addresses, sockets), nil
}
