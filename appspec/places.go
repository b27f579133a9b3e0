package appspec

import (
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// put remembers where a path of a Fault is in the source.
func (p *parser) put(path string, at hcl.Range) { p.ranges[path] = at }

// spoil says that what is at a path has been found wrong and said to be.
func (p *parser) spoil(path string) { p.bad[path] = true }

// rangeOf finds the place of a path, or of what holds it. It is nil and known
// when what is there has been found wrong already.
func (p *parser) rangeOf(path string) (at *hcl.Range, known bool) {
	for path != "" {
		if p.bad[path] {
			return nil, true
		}
		if found, ok := p.ranges[path]; ok && at == nil {
			at = &found
		}
		path = parent(path)
	}
	return at, at != nil
}

func parent(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// summaryOf is a headline for a fault: what kind of thing is wrong.
func summaryOf(f Fault) string {
	if strings.Contains(f.Message, "not supported yet") {
		return "Not supported yet"
	}
	field, _, _ := strings.Cut(f.Path, "[")
	parts := strings.Split(field, ".")
	switch {
	case len(parts) >= 2 && parts[len(parts)-2] == "application":
		return "Invalid application"
	case len(parts) >= 2 && parts[len(parts)-2] == "deployment":
		return "Invalid deployment"
	case len(parts) >= 3 && parts[len(parts)-2] == "schedule" && parts[len(parts)-3] == "autoscaling":
		return "Invalid schedule"
	case len(parts) >= 4 && parts[len(parts)-3] == "gates" && parts[len(parts)-4] == "rollout":
		return "Invalid " + parts[len(parts)-2] // query or check
	case parts[0] == "worker_group":
		return "Invalid " + groupPart(parts[1:])
	case strings.Contains(f.Path, ".task"):
		return "Invalid task"
	}
	return "Invalid " + parts[len(parts)-1]
}

// groupPart is what of a worker group a path is about: its last field or block
// that is not a name which the user gave.
func groupPart(parts []string) string {
	if len(parts) <= 1 {
		return "worker group"
	}
	for i := 1; i < len(parts)-1; i++ { // parts[0] is the group's name
		switch part := parts[i]; part {
		case "labels", "env", "config", "attributes", "task":
			return part
		case "schedule", "window", "prefetch":
			if i == len(parts)-2 {
				return part
			}
		}
	}
	return parts[len(parts)-1]
}

// contextOf names the blocks around an offset, outermost first.
func contextOf(file *hcl.File, offset int) string {
	body, ok := file.Body.(*hclsyntax.Body)
	if !ok {
		return ""
	}
	var names []string
	for body != nil {
		var inner *hclsyntax.Body
		for _, block := range body.Blocks {
			if block.Range().ContainsOffset(offset) {
				names = append(names, heading(block))
				inner = block.Body
				break
			}
		}
		body = inner
	}
	return strings.Join(names, ", ")
}

func heading(block *hclsyntax.Block) string {
	words := []string{block.Type}
	for _, label := range block.Labels {
		words = append(words, quote(label))
	}
	return strings.Join(words, " ")
}
