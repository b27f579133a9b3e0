package conformance

// knownGaps are the vectors whose expectation does not hold yet, with what the
// server does instead. It is to become empty and go. What a replica gets is one
// clear request even so: that has no exceptions.
func knownGaps() map[string]string {
	const (
		both     = "chunked wins, and the length is dropped"
		bareLF   = "a bare LF ends a line"
		folded   = "folded lines become one"
		oldCoded = "HTTP/1.0 is taken to have no codings"
		absolute = "the target's authority is taken, whatever it and Host are"
	)
	return map[string]string{
		"a length and chunked":                                       both,
		"chunked and a length":                                       both,
		"after both framings, kept alive":                            both,
		"chunked in HTTP/1.0":                                        oldCoded,
		"chunked and a length in HTTP/1.0":                           oldCoded,
		"chunked and a length of nothing, and a request in the body": both,
		"one length twice":                                           "the two are taken for one",
		"a folded line":                                              folded,
		"a line folded by a tab":                                     folded,
		"an empty folded line":                                       folded,
		"a folded host":                                              folded,
		"a folded trailer":                                           folded,
		"chunked in a folded line":                                   folded,
		"a line that ends in a bare LF":                              bareLF,
		"lines that end in bare LFs":                                 bareLF,
		"a header that ends in a bare LF":                            bareLF,
		"chunked after a bare LF":                                    bareLF,
		"a trailer with a space before the colon":                    "the trailer is dropped",
		"a trailer Content-Length with a space":                      "the trailer is dropped",
		"a trailer Transfer-Encoding with a space":                   "the trailer is dropped",
		"a NUL in a chunk extension":                                 "extensions are skipped unread",
		"an absolute target against the host":                        absolute,
		"an absolute target against the host's port":                 absolute,
		"an absolute target with a user":                             absolute,
		"an absolute target without a host":                          absolute,
		"an absolute target of another scheme":                       absolute,
		"100 and another expectation":                                "the other expectation is not looked at",
		"5,000 short headers":                                        "only their bytes are bounded",
	}
}

// knownStrictGaps are those that stay behind the server loop of package h1.
func knownStrictGaps() map[string]string {
	return map[string]string{"5,000 short headers": "only their bytes are bounded"}
}

// knownHostileGaps are the same of what replicas answer.
func knownHostileGaps() map[string]string {
	const (
		both    = "chunked wins, and the length is dropped"
		replace = "the byte is passed on, or a space in its place"
	)
	return map[string]string{
		"a length and chunks":          both,
		"chunks and a length":          both,
		"headers about the connection": "what Connection names is not seen beside close",
		"a NUL in a value":             replace,
		"a bare CR in a value":         replace,
	}
}
