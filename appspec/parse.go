package appspec

import (
	"io/fs"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// SourceFile is a file that somebody has read.
type SourceFile struct {
	Name string
	Body []byte
}

// Source is all that Parse looks at. It reads nothing else but the database of
// time zones, and no clock: the same source always gives the same result.
type Source struct {
	Files    []SourceFile      // spec files; each has variables and locals of its own
	FS       fs.FS             // the spec's own folder, for file functions; nil: there are none
	Vars     map[string]string // -var; each must be declared by one file at least
	VarFiles []SourceFile      // -var-file: HCL attributes; a later one wins
	Env      []string          // "NAME=value"; EnvPrefix and a variable's name sets it

	// AllowUnsupported lets through fields that nothing acts on yet. It is for
	// tests of what they mean.
	AllowUnsupported bool
}

// EnvPrefix and a variable's name is the environment variable that sets it.
const EnvPrefix = "SERVE_NOMAD_VAR_"

// Parse reads spec files. It gives every fault that it finds, each at its
// place; the file is nil when there is an error among them. Whatever the input
// is, Parse ends soon and needs little memory: see prescan.go for nesting and
// meter.go for evaluation.
func Parse(in Source) (*File, Diagnostics) {
	p := &parser{
		source:  in,
		sources: map[string]*hcl.File{},
		ranges:  map[string]hcl.Range{},
		bad:     map[string]bool{},
		used:    map[string]bool{},
		file:    &File{Applications: []*Application{}},
	}
	p.varFiles()
	for _, f := range in.Files {
		p.specFile(f)
	}
	p.unusedVars()
	p.validate()
	diags := ofHCL(p.diags, p.sources)
	if diags.HasErrors() {
		return nil, diags
	}
	return p.file, diags
}

// parser is what Parse knows on its way.
type parser struct {
	source  Source
	sources map[string]*hcl.File // by name, for snippets
	diags   hcl.Diagnostics
	meter   *meter // of the file at hand
	file    *File

	// A path is as in Fault.
	ranges map[string]hcl.Range
	bad    map[string]bool // what is there has been found wrong already

	assignments []assignment
	used        map[string]bool // variables that a file declares
}

func (p *parser) add(diags ...*hcl.Diagnostic) {
	p.diags = append(p.diags, diags...)
}

// syntax parses one file, once it is known not to harm the parser.
func (p *parser) syntax(f SourceFile) *hclsyntax.Body {
	if _, twice := p.sources[f.Name]; twice {
		p.add(&hcl.Diagnostic{Severity: hcl.DiagError, Summary: "File given twice", Detail: f.Name + " is given more than once."})
		return nil
	}
	p.sources[f.Name] = &hcl.File{Bytes: clipBytes(f.Body)}
	if diags := prescan(f.Name, f.Body); diags.HasErrors() {
		p.add(diags...)
		return nil
	}
	file, diags := hclsyntax.ParseConfig(f.Body, f.Name, hcl.InitialPos)
	p.add(diags...)
	if file == nil || diags.HasErrors() {
		return nil
	}
	p.sources[f.Name] = file
	body, _ := file.Body.(*hclsyntax.Body)
	return body
}

func clipBytes(body []byte) []byte {
	return body[:min(len(body), MaxFileSize)]
}

// scope is what the expressions of one file see.
type scope struct {
	ctx  *hcl.EvalContext
	text []byte
}

func (p *parser) specFile(f SourceFile) {
	body := p.syntax(f)
	if body == nil {
		return
	}
	p.meter = newMeter(len(f.Body), p.source.FS)
	content, diags := body.Content(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
		{Type: "application", LabelNames: []string{"name"}},
		{Type: "worker_group", LabelNames: []string{"name"}},
		{Type: "variable", LabelNames: []string{"name"}},
		{Type: "locals"},
	}})
	p.add(diags...)
	sc := p.newScope(f.Body, content)
	for _, block := range content.Blocks.OfType("application") {
		p.application(sc, block)
	}
	for _, block := range content.Blocks.OfType("worker_group") {
		p.workerGroup(sc, block)
	}
}

// validate applies the rules of Validate, and puts each fault at its place,
// but for what has been found wrong there already.
func (p *parser) validate() {
	v := validator{allowUnsupported: p.source.AllowUnsupported}
	v.file(p.file)
	for _, fault := range v.faults {
		at, known := p.rangeOf(fault.Path)
		if known && at == nil {
			continue
		}
		diag := &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summaryOf(fault), Detail: fault.Message, Subject: at}
		p.add(diag)
	}
}
