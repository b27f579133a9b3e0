package telemetry

import (
	"bytes"
	"encoding/hex"
	"net"
	"net/url"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// lineFormat writes lines of the access log. Whatever a client sends stays
// within its own field: quotes, backslashes and all that is not printable are
// escaped.
type lineFormat struct {
	format  Format
	query   bool
	headers []string
	referer int // its place among the headers; -1: none
	agent   int
}

func newLineFormat(c AccessLog, headers []string) lineFormat {
	return lineFormat{
		format: c.Format, query: c.Query, headers: headers,
		referer: slices.Index(headers, "Referer"), agent: slices.Index(headers, "User-Agent"),
	}
}

func (f *lineFormat) append(line []byte, b *batch, e *entry) []byte {
	fields := b.fields(e)
	if f.format == Combined {
		return f.combined(line, e, fields[:])
	}
	return f.json(line, e, fields[:])
}

// json writes one object. What is not known is left out.
func (f *lineFormat) json(line []byte, e *entry, fields [][]byte) []byte {
	line = append(line, `{"time":"`...)
	line = e.Arrived.UTC().AppendFormat(line, "2006-01-02T15:04:05.000000Z")
	line = append(line, '"')
	line = member(line, "id", fields[fieldID])
	if e.Trace.ID != [16]byte{} {
		line = append(line, `,"trace_id":"`...)
		line = append(hex.AppendEncode(line, e.Trace.ID[:]), '"')
	}
	if e.Handle {
		line = append(line, `,"port":"handle"`...)
	} else {
		line = append(line, `,"port":"public"`...)
	}
	line = member(line, "client", fields[fieldClient])
	line = member(line, "protocol", fields[fieldProtocol])
	line = member(line, "method", fields[fieldMethod])
	line = member(line, "host", fields[fieldHost])
	line = member(line, "path", escapedPath(fields))
	if f.query {
		line = member(line, "query", fields[fieldQuery])
	}
	line = member(line, "application", e.Application)
	if e.Generation != 0 {
		line = number(line, "generation", int64(e.Generation))
	}
	line = member(line, "deployment", e.Deployment)
	line = member(line, "version", e.Version)
	line = member(line, "replica", e.Replica)
	line = member(line, "node", e.Node)
	line = member(line, "address", e.Address)
	line = number(line, "status", int64(e.Status))
	line = member(line, "grpc_status", e.GRPC)
	line = member(line, "error", e.Code)
	line = number(line, "bytes_in", e.Received)
	line = number(line, "bytes_out", e.Sent)
	line = number(line, "tries", int64(e.Tries))
	line = seconds(line, "queued_seconds", e.Queued)
	if e.FirstByte > 0 {
		line = seconds(line, "first_byte_seconds", e.FirstByte)
	}
	line = seconds(line, "duration_seconds", e.Duration)
	return append(f.jsonHeaders(line, fields[fieldHeaders:]), "}\n"...)
}

func (f *lineFormat) jsonHeaders(line []byte, values [][]byte) []byte {
	if len(f.headers) == 0 {
		return line
	}
	line = append(line, `,"headers":{`...)
	first := true
	for i, key := range f.headers {
		if len(values[i]) == 0 {
			continue
		}
		if !first {
			line = append(line, ',')
		}
		first = false
		line = quoted(line, key)
		line = append(line, ':')
		line = quoted(line, values[i])
	}
	return append(line, '}')
}

// escapedPath is the path as it stands in a URL.
func escapedPath(fields [][]byte) string {
	u := url.URL{Path: string(fields[fieldPath]), RawPath: string(fields[fieldRawPath])}
	return u.EscapedPath()
}

// member writes a member of an object, unless its value is empty.
func member[T string | []byte](line []byte, name string, value T) []byte {
	if len(value) == 0 {
		return line
	}
	line = append(line, ',', '"')
	line = append(line, name...)
	line = append(line, '"', ':')
	return quoted(line, value)
}

func number(line []byte, name string, n int64) []byte {
	line = append(line, ',', '"')
	line = append(line, name...)
	line = append(line, '"', ':')
	return strconv.AppendInt(line, n, 10)
}

func seconds(line []byte, name string, d time.Duration) []byte {
	line = append(line, ',', '"')
	line = append(line, name...)
	line = append(line, '"', ':')
	return strconv.AppendFloat(line, d.Seconds(), 'f', 6, 64)
}

// quoted writes s as a JSON string. What is not UTF-8 becomes U+FFFD.
func quoted[T string | []byte](line []byte, s T) []byte {
	const digits = "0123456789abcdef"
	line = append(line, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			switch {
			case c == '"' || c == '\\':
				line = append(line, '\\', c)
			case c < ' ' || c == 0x7f:
				line = append(line, `\u00`...)
				line = append(line, digits[c>>4], digits[c&15])
			default:
				line = append(line, c)
			}
			i++
			continue
		}
		var part [utf8.UTFMax]byte
		n := copy(part[:], s[i:])
		r, size := utf8.DecodeRune(part[:n])
		switch {
		case r >= 0x80 && r < 0xa0 || r == '\u2028' || r == '\u2029': // ends a line for some readers
			line = append(line, `\u`...)
			line = append(line, digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
		default:
			line = utf8.AppendRune(line, r)
		}
		i += size
	}
	return append(line, '"')
}

// combined writes a line as Apache and nginx do.
func (f *lineFormat) combined(line []byte, e *entry, fields [][]byte) []byte {
	client := fields[fieldClient]
	if host, _, err := net.SplitHostPort(string(client)); err == nil {
		client = []byte(host)
	}
	line = bare(line, client)
	line = append(line, " - - ["...)
	line = e.Arrived.AppendFormat(line, "02/Jan/2006:15:04:05 -0700")
	line = append(line, `] "`...)
	line = escaped(line, fields[fieldMethod])
	line = append(line, ' ')
	line = escaped(line, []byte(escapedPath(fields)))
	if f.query && len(fields[fieldQuery]) > 0 {
		line = append(line, '?')
		line = escaped(line, fields[fieldQuery])
	}
	line = append(line, ' ')
	line = escaped(line, fields[fieldProtocol])
	line = append(line, `" `...)
	line = strconv.AppendInt(line, int64(e.Status), 10)
	line = append(line, ' ')
	line = strconv.AppendInt(line, e.Sent, 10)
	for _, at := range []int{f.referer, f.agent} {
		line = append(line, ` "`...)
		if at < 0 || len(fields[fieldHeaders+at]) == 0 {
			line = append(line, '-')
		} else {
			line = escaped(line, fields[fieldHeaders+at])
		}
		line = append(line, '"')
	}
	return append(line, '\n')
}

// bare writes a field that has no quotes around it.
func bare(line, s []byte) []byte {
	if len(s) == 0 {
		return append(line, '-')
	}
	return escaped(line, bytes.ReplaceAll(s, []byte(" "), []byte("_")))
}

// escaped writes s with \xHH for all that could end a field or a line.
func escaped(line, s []byte) []byte {
	const digits = "0123456789ABCDEF"
	for _, c := range s {
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			line = append(line, '\\', 'x', digits[c>>4], digits[c&15])
			continue
		}
		line = append(line, c)
	}
	return line
}
