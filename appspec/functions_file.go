package appspec

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// fileFunction is a function of a path below the spec's folder. read gives its
// result.
func (m *meter) fileFunction(files fs.FS, read func(fs.FS, string) (cty.Value, error)) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}},
		Type:   function.StaticReturnType(cty.DynamicPseudoType),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if files == nil {
				return cty.NilVal, errors.New("there is no folder to read files from")
			}
			name, err := below(args[0].AsString())
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			m.charge(iterationCost)
			return read(files, name)
		},
	})
}

// below holds a path to the spec's own folder. Links that lead out of it are
// the file system's to refuse.
func below(name string) (string, error) {
	clean := path.Clean(name)
	if strings.HasPrefix(name, "/") || strings.ContainsRune(name, '\\') || !fs.ValidPath(clean) {
		return "", fmt.Errorf("%s is not below the spec's own folder", quote(name))
	}
	return clean, nil
}

func fileText(files fs.FS, name string) (cty.Value, error) {
	body, err := readFile(files, name)
	if err != nil {
		return cty.NilVal, err
	}
	if !utf8.Valid(body) {
		return cty.NilVal, fmt.Errorf("%s is not UTF-8 text; filebase64 reads any file", quote(name))
	}
	return cty.StringVal(string(body)), nil
}

func fileBase64(files fs.FS, name string) (cty.Value, error) {
	body, err := readFile(files, name)
	if err != nil {
		return cty.NilVal, err
	}
	return cty.StringVal(base64.StdEncoding.EncodeToString(body)), nil
}

func fileExists(files fs.FS, name string) (cty.Value, error) {
	info, err := fs.Stat(files, name)
	if errors.Is(err, fs.ErrNotExist) {
		return cty.False, nil
	}
	if err != nil {
		return cty.NilVal, fmt.Errorf("look for %s: %w", quote(name), err)
	}
	return cty.BoolVal(info.Mode().IsRegular()), nil
}

func readFile(files fs.FS, name string) ([]byte, error) {
	info, err := fs.Stat(files, name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", quote(name), err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", quote(name))
	}
	f, err := files.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", quote(name), err)
	}
	body, err := io.ReadAll(io.LimitReader(f, MaxFileSize+1))
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", quote(name), err)
	}
	if len(body) > MaxFileSize {
		return nil, fmt.Errorf("%s is larger than %d bytes", quote(name), MaxFileSize)
	}
	return body, nil
}
