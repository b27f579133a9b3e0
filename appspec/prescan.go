package appspec

import (
	"bytes"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// MaxFileSize is the largest spec file, variable file and file read by a
// function, in bytes.
const MaxFileSize = 1 << 20

// hclsyntax parses and evaluates by recursion, and Go cannot recover from a
// stack that is full: a file of 70 kB with nothing but '(' ends the process.
// So its tokens are looked at first. They come from hclsyntax's own scanner,
// which does not recurse, so that strings, heredocs, templates and comments
// are exactly what the parser will take them for.
const (
	maxNesting   = 100  // brackets, blocks, templates and directives inside each other
	maxRecursion = 1000 // the same, and the operators that wait for their operand
	maxLines     = 100_000
	maxTokens    = 400_000
	maxInvalid   = 50
	maxNumber    = 100 // digits of a number

	// The parser joins a text's pieces, of which each line and each '$' and
	// '%' is one, by copying all that went before and all that follow.
	maxCopied = 512 << 20

	maxScanned = 16 << 20

	// maxRoughNesting is where a look at the bytes alone, strings and comments
	// included, is enough to refuse a file without scanning it.
	maxRoughNesting = 2000
)

// prescan refuses what must not reach the parser.
func prescan(name string, src []byte) hcl.Diagnostics {
	if diag := prescanBytes(name, src); diag != nil {
		return hcl.Diagnostics{diag}
	}
	tokens, _ := hclsyntax.LexConfig(src, name, hcl.InitialPos)
	if diag := prescanTokens(tokens); diag != nil {
		return hcl.Diagnostics{diag}
	}
	return nil
}

func prescanBytes(name string, src []byte) *hcl.Diagnostic {
	whole := hcl.Range{Filename: name, Start: hcl.InitialPos, End: hcl.InitialPos}
	if len(src) > MaxFileSize {
		return errorAt(whole, "File too large", "A file may have at most %d bytes; this one has %d.", MaxFileSize, len(src))
	}
	if i := bytes.IndexByte(src, 0); i >= 0 {
		return errorAt(positionOf(name, src, i), "Not a text file", "The file holds a NUL character.")
	}
	if !utf8.Valid(src) {
		return errorAt(positionOf(name, src, firstInvalid(src)), "Not a text file", "The file is not valid UTF-8 here; save it in the UTF-8 encoding.")
	}
	if i := endlessComments(src); i >= 0 {
		return errorAt(positionOf(name, src, i), "Comment without an end", "Nothing ends the comments that begin with \"/*\" from here on.")
	}
	depth, tokens, lines, inWord := 0, 0, 0, false
	for i, c := range src {
		wasWord := inWord
		inWord = isWord(c)
		switch {
		case c == '\n':
			lines++
		case inWord && wasWord, c == ' ', c == '\t', c == '\r':
		default: // a symbol, or a word begins
			tokens++
		}
		switch c {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth = max(0, depth-1)
		}
		if depth > maxRoughNesting {
			return tooDeep(positionOf(name, src, i))
		}
	}
	if lines > maxLines || tokens+lines > maxTokens {
		return errorAt(whole, "File too large", "A file may have at most %d lines, and %d words and symbols.", maxLines, maxTokens)
	}
	return nil
}

// endlessComments looks for comments that nothing ends: for each of them the
// scanner looks through the rest of the file. It returns where the first one
// is when they are many, or -1.
func endlessComments(src []byte) int {
	first, scanned := -1, 0
	for at := max(0, bytes.LastIndex(src, []byte("*/"))); ; {
		next := bytes.Index(src[at:], []byte("/*"))
		if next < 0 {
			return -1
		}
		at += next + len("/*")
		if first < 0 {
			first = at - len("/*")
		}
		if scanned += len(src) - at; scanned > maxScanned {
			return first
		}
	}
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c >= utf8.RuneSelf
}

func firstInvalid(src []byte) int {
	for i := 0; i < len(src); {
		r, size := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && size <= 1 {
			return i
		}
		i += size
	}
	return len(src)
}

// positionOf is the place of one byte. Its column counts runes.
func positionOf(name string, src []byte, offset int) hcl.Range {
	start := bytes.LastIndexByte(src[:offset], '\n') + 1
	at := hcl.Pos{
		Line:   1 + bytes.Count(src[:offset], []byte{'\n'}),
		Column: 1 + utf8.RuneCount(src[start:offset]),
		Byte:   offset,
	}
	end := at
	end.Column++
	end.Byte++
	return hcl.Range{Filename: name, Start: at, End: end}
}

func tooDeep(at hcl.Range) *hcl.Diagnostic {
	return errorAt(at, "Nested too deep",
		"Brackets, blocks and templates may be nested at most %d deep, and operators be chained to at most %d.", maxNesting, maxRecursion-maxNesting)
}

// frame is one bracket, template or heredoc that is open.
type frame struct {
	closer     hclsyntax.TokenType
	template   bool // holds text: its parts stand side by side
	newlines   bool // a line's end ends an expression
	fresh      bool // nothing but line ends and comments so far
	chain      int  // operators since the expression began: each may wait for the next
	directives int  // %{ if and %{ for without their end
	literals   int  // pieces of text so far
	run        int  // bytes of text since the last template sequence
}

// stack bounds the parser's recursion from above: it never forgets an opening
// that the parser could still be inside of.
type stack struct {
	frames    []frame
	recursion int // frames, their chains and directives
	nesting   int // frames and directives
	copied    int // bytes
}

func (s *stack) top() *frame { return &s.frames[len(s.frames)-1] }

func (s *stack) push(f frame) {
	if parent := s.top(); !parent.template {
		parent.chain++
		s.recursion++
	}
	f.fresh = true
	s.frames = append(s.frames, f)
	s.recursion++
	s.nesting++
}

// pop closes the innermost frame if that is what the token closes. A closer
// without its opener is left to the parser.
func (s *stack) pop(closer hclsyntax.TokenType) {
	if len(s.frames) == 1 || s.top().closer != closer {
		return
	}
	last := s.top()
	s.recursion -= 1 + last.chain + last.directives
	s.nesting -= 1 + last.directives
	s.frames = s.frames[:len(s.frames)-1]
}

func (s *stack) endExpression() {
	s.recursion -= s.top().chain
	s.top().chain = 0
}

func (s *stack) operator() {
	s.top().chain++
	s.recursion++
}

// literal is a piece of text.
func (s *stack) literal(size int) {
	top := s.top()
	top.literals++
	top.run += size
	s.copied += top.run + 16*top.literals
}

// directive counts the ifs and fors of a template around each other.
func (s *stack) directive(keyword string) {
	if len(s.frames) < 2 {
		return
	}
	around := &s.frames[len(s.frames)-2]
	change := 0
	switch keyword {
	case "if", "for":
		change = 1
	case "endif", "endfor":
		change = -min(1, around.directives)
	}
	around.directives += change
	s.recursion += change
	s.nesting += change
}

func prescanTokens(tokens hclsyntax.Tokens) *hcl.Diagnostic {
	if len(tokens) > maxTokens {
		return errorAt(tokens[maxTokens].Range, "File too large", "A file may have at most %d words and symbols.", maxTokens)
	}
	s := stack{frames: []frame{{newlines: true}}}
	invalid := 0
	for i, token := range tokens {
		switch token.Type { //nolint:exhaustive // the others neither nest nor chain
		case hclsyntax.TokenInvalid, hclsyntax.TokenBadUTF8:
			invalid++
		case hclsyntax.TokenNumberLit:
			if hugeLiteral(token.Bytes) {
				return errorAt(token.Range, "Number too large", "A number may have at most %d digits and be at most about 1e308.", maxNumber)
			}
		case hclsyntax.TokenTemplateControl:
			s.step(token)
			if i+1 < len(tokens) {
				s.directive(string(tokens[i+1].Bytes))
			}
			continue
		}
		s.step(token)
		if s.nesting > maxNesting || s.recursion > maxRecursion {
			return tooDeep(token.Range)
		}
		if s.copied > maxCopied {
			return errorAt(token.Range, "Text too long", "Texts of many lines get costly to read here; put them into files of their own, and write file(\"name\").")
		}
		if invalid > maxInvalid {
			return errorAt(token.Range, "Not a spec", "The file holds many characters that have no meaning in HCL.")
		}
	}
	return nil
}

func (s *stack) step(token hclsyntax.Token) {
	if token.Type != hclsyntax.TokenNewline && token.Type != hclsyntax.TokenComment {
		if s.top().fresh && token.Type == hclsyntax.TokenIdent && string(token.Bytes) == "for" {
			s.top().newlines = false
		}
		s.top().fresh = false
	}
	switch token.Type { //nolint:exhaustive // the others neither nest nor chain
	case hclsyntax.TokenOBrace:
		s.push(frame{closer: hclsyntax.TokenCBrace, newlines: true})
	case hclsyntax.TokenOBrack:
		s.push(frame{closer: hclsyntax.TokenCBrack})
	case hclsyntax.TokenOParen:
		s.push(frame{closer: hclsyntax.TokenCParen})
	case hclsyntax.TokenOQuote:
		s.push(frame{closer: hclsyntax.TokenCQuote, template: true})
	case hclsyntax.TokenOHeredoc:
		s.push(frame{closer: hclsyntax.TokenCHeredoc, template: true})
	case hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit:
		s.literal(len(token.Bytes))
	case hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
		s.top().run = 0
		s.push(frame{closer: hclsyntax.TokenTemplateSeqEnd})
	case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenCQuote,
		hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
		s.pop(token.Type)
	case hclsyntax.TokenComma:
		s.endExpression()
	case hclsyntax.TokenNewline, hclsyntax.TokenComment:
		// A comment to the end of the line holds the line's end.
		if s.top().newlines && bytes.HasSuffix(token.Bytes, []byte{'\n'}) {
			s.endExpression()
		}
	case hclsyntax.TokenBang, hclsyntax.TokenMinus, hclsyntax.TokenPlus, hclsyntax.TokenStar, hclsyntax.TokenSlash,
		hclsyntax.TokenPercent, hclsyntax.TokenAnd, hclsyntax.TokenOr, hclsyntax.TokenEqualOp, hclsyntax.TokenNotEqual,
		hclsyntax.TokenLessThan, hclsyntax.TokenLessThanEq, hclsyntax.TokenGreaterThan, hclsyntax.TokenGreaterThanEq,
		hclsyntax.TokenQuestion, hclsyntax.TokenColon, hclsyntax.TokenDot, hclsyntax.TokenDoubleColon:
		s.operator()
	}
}

func hugeLiteral(digits []byte) bool {
	return len(digits) > maxNumber || hugeNumber(string(digits))
}
