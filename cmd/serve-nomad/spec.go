package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/posener/complete"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/appspec"
)

// specFlags is how a spec's variables are given.
type specFlags struct {
	vars     listFlag
	varFiles listFlag
}

// listFlag is a flag that may be repeated.
type listFlag []string

func (f *listFlag) String() string { return strings.Join(*f, ",") }

// Set is for flag.Value.
func (f *listFlag) Set(text string) error {
	*f = append(*f, text)
	return nil
}

func (s *specFlags) register(flags *flag.FlagSet) {
	flags.Var(&s.vars, "var", "Value of a variable of the spec, as `name=value`. May be repeated. Overrides -var-file, which overrides "+
		appspec.EnvPrefix+"<name> in the environment.")
	flags.Var(&s.varFiles, "var-file", "`File` with values of the spec's variables, name = value a line. May be repeated; a later one overrides.")
}

// again is the command line that names the same spec with the same variables.
func (s *specFlags) again(files []string) []string {
	var words []string
	for _, file := range s.varFiles {
		words = append(words, "-var-file", shellWord(file))
	}
	for _, v := range s.vars {
		words = append(words, "-var", shellWord(v))
	}
	for _, file := range files {
		words = append(words, shellWord(file))
	}
	return words
}

func predictSpecs() complete.Predictor { return complete.PredictFiles("*.hcl") }

// specError is a spec with faults; they have been shown.
type specError struct{ diagnostics appspec.Diagnostics }

func (e *specError) Error() string {
	errs := 0
	for _, d := range e.diagnostics {
		if d.Severity == appspec.SeverityError {
			errs++
		}
	}
	return "the spec has " + plural(errs, "fault") + "; nothing was done"
}

// read parses the named spec files. Faults and warnings are shown with their
// places.
func (s *specFlags) read(c *command, names []string) (*appspec.File, error) {
	file, diagnostics, err := s.parse(c, names)
	if err != nil {
		return nil, err
	}
	if err := c.showDiagnostics(diagnostics); err != nil {
		return nil, err
	}
	return file, nil
}

// showDiagnostics writes faults and warnings to standard error. Faults come
// back as a specError.
func (c *command) showDiagnostics(diagnostics appspec.Diagnostics) error {
	if len(diagnostics) > 0 {
		_ = diagnostics.WriteText(c.stderr, c.color, c.width()) // there is nowhere to report it to
	}
	if diagnostics.HasErrors() {
		return &specError{diagnostics}
	}
	return nil
}

// width is how long lines of prose may be.
func (b *base) width() int {
	const usual, least, most = 80, 40, 120
	columns, err := strconv.Atoi(b.getenv("COLUMNS"))
	if err != nil {
		return usual
	}
	return min(max(columns, least), most)
}

func (s *specFlags) parse(c *command, names []string) (*appspec.File, appspec.Diagnostics, error) {
	source := appspec.Source{Vars: map[string]string{}, Env: c.environ()}
	for _, v := range s.vars {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return nil, nil, wrongUse("-var must be name=value, not %q", v)
		}
		source.Vars[name] = value
	}
	var err error
	if source.Files, err = c.readFiles(names); err != nil {
		return nil, nil, err
	}
	if source.VarFiles, err = c.readFiles(s.varFiles); err != nil {
		return nil, nil, err
	}
	root, err := specRoot(names)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = root.Close() }() // it was only read
	source.FS = root.FS()
	file, diagnostics := appspec.Parse(source)
	return file, diagnostics, nil
}

// specRoot opens the folder that a spec's functions may read files of: the one
// that holds all the spec files.
func specRoot(names []string) (*os.Root, error) {
	folder := ""
	for _, name := range names {
		if name == stdinName {
			continue
		}
		dir := filepath.Dir(name)
		if folder != "" && dir != folder {
			return nil, wrongUse("spec files of one command must be in one folder, not in %q and %q", folder, dir)
		}
		folder = dir
	}
	if folder == "" {
		folder = "."
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("open the spec's folder: %w", err)
	}
	return root, nil
}

// stdinName is the name of standard input on the command line.
const stdinName = "-"

func (c *command) readFiles(names []string) ([]appspec.SourceFile, error) {
	var files []appspec.SourceFile
	read := map[string]bool{}
	for _, name := range names {
		if read[name] {
			return nil, wrongUse("%q is named twice", name)
		}
		read[name] = true
		body, err := c.readFile(name)
		if err != nil {
			return nil, err
		}
		if name == stdinName {
			name = "<stdin>"
		}
		files = append(files, appspec.SourceFile{Name: name, Body: body})
	}
	return files, nil
}

// readFile reads a file that a person named.
func (c *command) readFile(name string) ([]byte, error) {
	return interruptible(c.ctx, func() ([]byte, error) { return c.readSource(name) })
}

// interruptible reads what may block, such as a terminal or a pipe that nobody
// writes to, and gives it up when the command is interrupted.
func interruptible[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := read()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// readSource reads a little more than Parse takes, so that Parse can say that it
// is too large.
func (c *command) readSource(name string) ([]byte, error) {
	const limit = appspec.MaxFileSize + 1
	if name == stdinName {
		body, err := io.ReadAll(io.LimitReader(c.stdin, limit))
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		return body, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, readFault(name, err)
	}
	defer func() { _ = f.Close() }() // it was only read
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, fmt.Errorf("read %s: it is a folder: name a file", name)
	}
	body, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, readFault(name, err)
	}
	return body, nil
}

func readFault(name string, err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err // the name once is enough
	}
	return fmt.Errorf("read %s: %w", name, err)
}

// specErrorBody is what a command with -json prints about a spec with faults.
type specErrorBody struct {
	api.ErrorResponse
	Diagnostics appspec.Diagnostics `json:"diagnostics"`
}
