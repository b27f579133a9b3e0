//go:build unix && !linux

package nodepool

// marked returns nothing where the system does not show the environment of other
// processes: what Nomad itself does not end when it leaves, stays.
func marked(string, []string) []process { return nil }

func configOf(int) string { return "" }
