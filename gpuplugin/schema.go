package gpuplugin

import (
	"maps"

	"github.com/hashicorp/nomad/plugins/shared/hclspec"
)

// schema is what the config block of the plugin may have in it.
func schema() *hclspec.Spec {
	use := map[string]*hclspec.Spec{
		"mode":    attribute("mode", "string"),
		"slices":  attribute("slices", "number"),
		"sharing": attribute("sharing", "string"),
	}
	whole := map[string]*hclspec.Spec{
		"nvidia_runtime":     attribute("nvidia_runtime", "bool"),
		"fingerprint_period": attribute("fingerprint_period", "string"),
		"state_dir":          attribute("state_dir", "string"),
		"gpu":                blocks("gpu", "gpu", use),
	}
	pretence := map[string]*hclspec.Spec{
		"count":  attribute("count", "number"),
		"memory": attribute("memory", "string"),
		"seed":   attribute("seed", "string"),
		"state":  attribute("state", "string"),
	}
	maps.Copy(whole, use)
	maps.Copy(pretence, use)
	whole["make_believe"] = blocks("make_believe", "model", pretence)
	return object(whole)
}

func object(attributes map[string]*hclspec.Spec) *hclspec.Spec {
	return &hclspec.Spec{Block: &hclspec.Spec_Object{Object: &hclspec.Object{Attributes: attributes}}}
}

func attribute(name, kind string) *hclspec.Spec {
	return &hclspec.Spec{Block: &hclspec.Spec_Attr{Attr: &hclspec.Attr{Name: name, Type: kind}}}
}

// blocks are blocks of one name, each with a label.
func blocks(name, label string, attributes map[string]*hclspec.Spec) *hclspec.Spec {
	return &hclspec.Spec{Block: &hclspec.Spec_BlockMap{BlockMap: &hclspec.BlockMap{
		Name: name, Labels: []string{label}, Nested: object(attributes),
	}}}
}
