package gpushare

import (
	"slices"
	"strconv"
)

// XIDTrouble says what an XID, an error that the driver reports of a GPU, means
// for those that are to use it; "": nothing. Those of a program that did
// something wrong say nothing of the GPU; they are the ones that NVIDIA's
// Kubernetes plugin leaves aside too.
func XIDTrouble(xid uint64) string {
	programs := []uint64{13, 31, 43, 45, 68, 109}
	if slices.Contains(programs, xid) {
		return ""
	}
	return "the driver reported XID " + strconv.FormatUint(xid, 10) + ": see dmesg; it counts as broken until the driver is loaded anew or the plugin restarts"
}

// ECCTrouble says what uncorrected memory errors mean.
func ECCTrouble(uncorrected uint64) string {
	if uncorrected == 0 {
		return ""
	}
	return strconv.FormatUint(uncorrected, 10) + " uncorrected memory errors since the driver was loaded: reset the GPU or reboot"
}
