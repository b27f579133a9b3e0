package gpushare

import (
	"fmt"
	"maps"
)

// Announced is how GPUs were announced since the machine booted: by UUID. It is
// kept in a file, since Nomad takes no notice when a GPU that tasks hold slices
// of is cut in another way, and would give it out twice.
type Announced struct {
	Boot string           `json:"boot"`
	GPUs map[string]Shape `json:"gpus"`
}

// Shape is what the ids of a GPU's devices depend on.
type Shape struct {
	Mode   string `json:"mode"`
	Slices int    `json:"slices,omitempty"`
}

func (s Shape) String() string {
	if s.Mode == ModeShared {
		return fmt.Sprintf("%d slices", s.Slices)
	}
	return "one whole GPU"
}

// HoldBack holds back the devices of GPUs that were announced in another shape
// since this boot, and returns what is to be remembered. The file that it is
// kept in, which is named to the user, frees them when it is gone.
func HoldBack(before Announced, boot, file string, devices []Device) (Announced, []Device) {
	after := Announced{Boot: boot, GPUs: map[string]Shape{}}
	if before.Boot == boot {
		maps.Copy(after.GPUs, before.GPUs)
	}
	list := make([]Device, len(devices))
	for i, d := range devices {
		shape := Shape{Mode: d.Use.Mode}
		if d.Use.Mode == ModeShared {
			shape.Slices = d.Use.Slices
		}
		was, known := after.GPUs[d.GPU.UUID]
		if !known {
			after.GPUs[d.GPU.UUID] = shape
		}
		if known && was != shape && d.Trouble == "" {
			d.Trouble = fmt.Sprintf("changed from %s to %s while tasks may hold the old: drain the node, then remove %s", was, shape, file)
		}
		list[i] = d
	}
	return after, list
}
