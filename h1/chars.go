package h1

// Which bytes may stand where: bit n of low is byte n, bit n of high byte n+64.
const (
	digits  = (1<<10 - 1) << '0'
	letters = (1<<26-1)<<('A'-64) | (1<<26-1)<<('a'-64)

	// tchar of RFC 9110, section 5.6.2.
	tokenLow  = digits | 1<<'!' | 1<<'#' | 1<<'$' | 1<<'%' | 1<<'&' | 1<<'\'' | 1<<'*' | 1<<'+' | 1<<'-' | 1<<'.'
	tokenHigh = letters | 1<<('^'-64) | 1<<('_'-64) | 1<<('`'-64) | 1<<('|'-64) | 1<<('~'-64)

	// uri-host and port of RFC 3986, section 3.2.
	hostLow = digits | 1<<'!' | 1<<'$' | 1<<'%' | 1<<'&' | 1<<'\'' | 1<<'(' | 1<<')' | 1<<'*' | 1<<'+' |
		1<<',' | 1<<'-' | 1<<'.' | 1<<':' | 1<<';' | 1<<'='
	hostHigh = letters | 1<<('['-64) | 1<<(']'-64) | 1<<('_'-64) | 1<<('~'-64)

	// What a path may have that is the same escaped and unescaped.
	plainLow  = digits | 1<<'$' | 1<<'&' | 1<<'+' | 1<<',' | 1<<'-' | 1<<'.' | 1<<'/' | 1<<':' | 1<<';' | 1<<'='
	plainHigh = letters | 1<<('@'-64) | 1<<('_'-64) | 1<<('~'-64)
)

func among(low, high uint64, b byte) bool {
	if b < 64 {
		return low>>b&1 == 1
	}
	return b < 128 && high>>(b-64)&1 == 1
}

func consistsOf(low, high uint64, s string) bool {
	for i := range len(s) {
		if !among(low, high, s[i]) {
			return false
		}
	}
	return true
}

func isToken(s string) bool { return s != "" && consistsOf(tokenLow, tokenHigh, s) }

// isValue says whether s may be a header's value: no control bytes but the tab.
func isValue(s string) bool {
	for i := range len(s) {
		if b := s[i]; (b < ' ' && b != '\t') || b == 0x7f {
			return false
		}
	}
	return true
}

// isTarget says whether s may be a request's target: printable ASCII without
// '#', which no client sends.
func isTarget(s string) bool {
	for i := range len(s) {
		if b := s[i]; b <= ' ' || b >= 0x7f || b == '#' {
			return false
		}
	}
	return s != ""
}

func isHost(s string) bool { return consistsOf(hostLow, hostHigh, s) }

// trim takes blanks and tabs off both ends.
func trim(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// parseDigits reads a number of at most 19 decimal digits and nothing else.
func parseDigits(s string) (n int64, ok bool) {
	if s == "" || len(s) > 19 {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, n >= 0 // 19 digits can be too many, but not by a factor of two
}

// parseHex reads a chunk's size: at most 15 hexadecimal digits and nothing else.
func parseHex(b []byte) (n int64, ok bool) {
	if len(b) == 0 || len(b) > 15 {
		return 0, false
	}
	for _, c := range b {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		n = n<<4 | int64(c)
	}
	return n, true
}
