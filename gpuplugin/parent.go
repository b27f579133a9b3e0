package gpuplugin

import (
	"time"

	"github.com/hashicorp/go-hclog"
)

// parentPeriod is how often it is seen whether Nomad still runs.
const parentPeriod = 5 * time.Second

// endWithParent ends the process when the one that started it is gone. Nomad
// leaves its plugins behind when it is killed, and when it fails to start; it
// starts others, and these would look at the GPUs for ever. MPS daemons stay.
func endWithParent(log hclog.Logger, parent func() int, exit func(int)) {
	first := parent()
	ticker := time.NewTicker(parentPeriod)
	defer ticker.Stop()
	for range ticker.C {
		if parent() != first {
			log.Warn("the Nomad that started this is gone")
			exit(0)
			return
		}
	}
}
