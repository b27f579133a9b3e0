package proctable

import "os"

// LookAtSockets looks at the TCP sockets of this machine.
func LookAtSockets() (Sockets, error) {
	var sockets []socket
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(name)
		if err != nil {
			if name == "/proc/net/tcp6" && os.IsNotExist(err) {
				break // IPv6 is off
			}
			return Sockets{}, err
		}
		sockets = append(sockets, parseSockets(string(text))...)
	}
	return sort(sockets), nil
}
