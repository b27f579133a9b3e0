package appspec

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// Format returns src in HCL's canonical layout. It changes nothing but spaces,
// and refuses what does not parse, for which there is no layout.
func Format(name string, src []byte) ([]byte, Diagnostics) {
	files := map[string]*hcl.File{name: {Bytes: clipBytes(src)}}
	if diags := prescan(name, src); diags.HasErrors() {
		return nil, ofHCL(diags, files)
	}
	file, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	if diags.HasErrors() {
		return nil, ofHCL(diags, files)
	}
	files[name] = file
	return hclwrite.Format(src), ofHCL(diags, files)
}
