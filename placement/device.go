package placement

import (
	"slices"
	"strconv"
	"strings"
)

// matches reports whether a device is of the name that is asked for: "type",
// "vendor/type" or "vendor/type/name". A name may itself contain "/".
func (d *Device) matches(name string) bool {
	if name == "" {
		return false
	}
	parts := strings.SplitN(name, "/", 3)
	vendor, kind, model := "", parts[0], ""
	if len(parts) > 1 {
		vendor, kind = parts[0], parts[1]
	}
	if len(parts) > 2 {
		model = parts[2]
	}
	return (vendor == "" || vendor == d.Vendor) && (kind == "" || kind == d.Type) && (model == "" || model == d.Name)
}

// id is the device as Nomad writes it: "vendor/type/name".
func (d *Device) id() string { return d.Vendor + "/" + d.Type + "/" + d.Name }

const deviceIDs = "${device.ids}"

// resolveDevice looks up one side of a constraint on a device.
func resolveDevice(target string, d *Device) (q quantity, found bool) {
	if !strings.HasPrefix(target, "${") {
		return parseQuantity(target), true
	}
	switch target {
	case deviceIDs:
		return textQuantity(strings.Join(d.Instances, ",")), true
	case "${device.model}":
		return textQuantity(d.Name), true
	case "${device.vendor}":
		return textQuantity(d.Vendor), true
	case "${device.type}":
		return textQuantity(d.Type), true
	}
	if name, ok := strings.CutPrefix(target, "${device.attr."); ok {
		text, found := d.Attributes[strings.TrimSuffix(name, "}")]
		return parseQuantity(text), found
	}
	return quantity{}, false
}

// deviceMeets holds one constraint against a device.
func (j *judge) deviceMeets(c Constraint, d *Device) bool {
	left, foundLeft := resolveDevice(c.Left, d)
	right, foundRight := resolveDevice(c.Right, d)
	return j.quantitiesMeet(c.Operand, left, right, foundLeft, foundRight)
}

func (j *judge) quantitiesMeet(operand string, left, right quantity, foundLeft, foundRight bool) bool {
	switch operand {
	case "distinct_hosts", "distinct_property":
		return true
	case "is_set":
		return foundLeft
	case "is_not_set":
		return !foundLeft
	case "!=", "not":
		if foundLeft != foundRight {
			return true
		}
	}
	if !foundLeft || !foundRight {
		return false
	}
	switch operand {
	case "!=", "not", "=", "==", "is", "<", "<=", ">", ">=":
		return quantitiesCompare(operand, left, right)
	}
	text, ok := left.words()
	if left.whole != nil && (operand == "version" || operand == "semver") {
		text, ok = strconv.FormatInt(*left.whole, 10), true
	}
	pattern, isText := right.words()
	return ok && isText && j.matches(operand, text, pattern)
}

func quantitiesCompare(operand string, left, right quantity) bool {
	order, ok := left.compare(right)
	if !ok {
		return false
	}
	switch operand {
	case "!=", "not":
		return order != 0
	case "=", "==", "is":
		return order == 0
	default:
		return ordered(operand, order)
	}
}

// deviceFits reports whether a request may be filled from a device, were all
// of it free.
func (j *judge) deviceFits(a *DeviceAsk, d *Device) bool {
	return d.matches(a.Name) && !slices.ContainsFunc(a.Constraints, func(c Constraint) bool { return !j.deviceMeets(c, d) })
}

// instanceFits reports whether one instance of a device may be used: a
// constraint on ${device.ids} is on each.
func (j *judge) instanceFits(a *DeviceAsk, d *Device, instance string) bool {
	for _, c := range a.Constraints {
		other := c.Right
		if c.Left != deviceIDs {
			if other = c.Left; c.Right != deviceIDs {
				continue
			}
		}
		want, _ := resolveDevice(other, d)
		if !j.quantitiesMeet(c.Operand, want, textQuantity(instance), true, true) {
			return false
		}
	}
	return true
}

// liking is how well a device meets the affinities of a request: -1 to 1.
func (j *judge) liking(a *DeviceAsk, d *Device) float64 {
	sum, total := 0.0, 0.0
	for _, f := range a.Affinities {
		weight := float64(f.Weight)
		total += max(weight, -weight)
		if j.deviceMeets(f.Constraint, d) {
			sum += weight
		}
	}
	if total == 0 {
		return 0
	}
	return sum / total
}

// narrows reports whether a request is on certain instances of a device.
func (a *DeviceAsk) narrows() bool {
	return slices.ContainsFunc(a.Constraints, func(c Constraint) bool { return c.Left == deviceIDs || c.Right == deviceIDs })
}
