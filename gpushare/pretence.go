package gpushare

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
)

// pretenceMark is in the UUID of each GPU that there is not.
const pretenceMark = "GPU-make-believe-"

// Happening is what the state file of make-believe GPUs says of one of them.
type Happening struct {
	Lost      bool   `json:"lost"`
	Unhealthy string `json:"unhealthy"`
}

// Pretend returns the GPUs of a pretence. They are numbered from first, and the
// happenings by their place in it, from "0".
func Pretend(p Pretence, first int, happened map[string]Happening) []GPU {
	gpus := make([]GPU, 0, p.Count)
	for i := range p.Count {
		sum := sha256.Sum256([]byte(p.Seed + "\x00" + p.Model + "\x00" + strconv.Itoa(i)))
		gpu := GPU{
			UUID: pretenceMark + hex.EncodeToString(sum[:8]), Index: first + i, Minor: -1,
			Model: p.Model, MemoryMiB: p.MemoryMiB, MakeBelieve: true,
		}
		switch h := happened[strconv.Itoa(i)]; {
		case h.Lost:
			gpu.Trouble = "lost, as its state file says"
		case h.Unhealthy != "":
			gpu.Trouble = h.Unhealthy
		}
		gpus = append(gpus, gpu)
	}
	return gpus
}
