package placement

import (
	"maps"
	"strings"
)

// Pattern is a node like another that could be made: as it is when nothing runs
// there, without what only that one has.
func Pattern(like *Node) *Node {
	n := *like
	n.ID, n.Name, n.Closed, n.Allocs, n.Said = "", "", "", nil, Said{}
	n.Imagined = true
	n.Attributes = maps.Clone(like.Attributes)
	maps.DeleteFunc(n.Attributes, func(name, _ string) bool { return strings.HasPrefix(name, "unique.") })
	n.Meta = maps.Clone(like.Meta)
	maps.DeleteFunc(n.Meta, func(name, _ string) bool { return strings.HasPrefix(name, "unique.") })
	return &n
}
