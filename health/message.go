package health

import (
	"encoding/binary"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
)

// gRPC's health service
// (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).
const (
	// ServicePath is what the paths of its methods begin with.
	ServicePath = "/grpc.health.v1.Health/"
	// CheckPath is the path of Check.
	CheckPath = ServicePath + "Check"

	statusServing    = 1
	statusNotServing = 2

	maxRequest = 4 << 10 // bytes
)

// frame frames a message that is not compressed.
func frame(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b))), b...)
}

// Answer is the body of a HealthCheckResponse.
func Answer(serves bool) []byte {
	status := byte(statusNotServing)
	if serves {
		status = statusServing
	}
	return frame([]byte{1 << 3, status})
}

func checkRequest(service string) []byte {
	var b []byte
	if service != "" {
		b = protowire.AppendString(protowire.AppendTag(b, 1, protowire.BytesType), service)
	}
	return frame(b)
}

// ReadRequest returns the service that the body of a HealthCheckRequest asks
// for, and false where it is none.
func ReadRequest(body io.Reader) (service string, ok bool) {
	b, err := io.ReadAll(io.LimitReader(body, maxRequest))
	if err != nil {
		return "", false
	}
	message, ok := unframe(b)
	for ok && len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return "", false
		}
		message = message[n:]
		if number == 1 && kind == protowire.BytesType {
			value, n := protowire.ConsumeString(message)
			if n < 0 {
				return "", false
			}
			service, message = value, message[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return "", false
		}
		message = message[n:]
	}
	return service, ok
}

// unframe returns the one message of a body, if it is not compressed.
func unframe(b []byte) (message []byte, ok bool) {
	if len(b) < 5 || b[0] != 0 || uint64(binary.BigEndian.Uint32(b[1:])) != uint64(len(b)-5) {
		return nil, false
	}
	return b[5:], true
}

// saysServing says whether the answer of a health service is SERVING.
func saysServing(body []byte) bool {
	message, ok := unframe(body)
	serving := false
	for ok && len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return false
		}
		message = message[n:]
		if number == 1 && kind == protowire.VarintType {
			value, n := protowire.ConsumeVarint(message)
			serving, ok = value == statusServing, n >= 0
			message = message[max(n, 0):]
			continue
		}
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return false
		}
		message = message[n:]
	}
	return ok && serving
}
