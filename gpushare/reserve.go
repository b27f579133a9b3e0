package gpushare

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Reservation is what a task is given to use the devices that it has.
type Reservation struct {
	Env    map[string]string
	Mounts []string // folders of the node, at the same path in a container
	Nodes  []string // device files, likewise; those that exist are to be handed in
}

// held is a GPU, and how many of its slices a task has; 0: the whole of it.
type held struct {
	Device
	slices int
}

// Reserve says what a task gets for instances of devices. It goes by their ids
// alone, since Nomad tells neither who asks nor when they are given back.
func Reserve(c Config, devices []Device, ids []string) (Reservation, error) {
	gpus, err := hold(devices, ids)
	if err != nil {
		return Reservation{}, err
	}
	r := Reservation{Env: map[string]string{}}
	uuids := make([]string, len(gpus))
	for i, h := range gpus {
		uuids[i] = h.GPU.UUID
		r.Env[EnvGPU+strconv.Itoa(h.GPU.Index)] = h.GPU.UUID
		if h.GPU.MakeBelieve {
			r.Env[EnvMakeBelieve] = "1"
		}
	}
	least := slices.MinFunc(gpus, func(a, b held) int { return cmp.Compare(a.memory(), b.memory()) })
	r.Env[EnvVisible] = strings.Join(uuids, ",")
	r.Env[EnvShare] = least.share()
	r.Env[EnvMemory] = strconv.FormatUint(least.memory(), 10)
	if least.slices > 0 {
		r.Env[EnvSharing] = least.Use.Sharing
	}
	if err = r.addMPS(c, gpus); err != nil {
		return Reservation{}, err
	}
	r.addRuntime(c, gpus)
	return r, nil
}

// hold finds the GPUs that instances are of, in the order of their indices.
func hold(devices []Device, ids []string) (gpus []held, err error) {
	if len(ids) == 0 {
		return nil, fmt.Errorf("reserve devices: no device ids were given")
	}
	for i, id := range ids {
		at := slices.IndexFunc(devices, func(d Device) bool { return slices.Contains(d.InstanceIDs(), id) })
		if at < 0 {
			return nil, fmt.Errorf("reserve devices: this node has no device %q: the configuration of plugin %q may have changed since the task was placed", id, Plugin)
		}
		d := devices[at]
		if d.Trouble != "" {
			return nil, fmt.Errorf("reserve devices: device %q cannot be used: %s", id, d.Trouble)
		}
		if slices.Contains(ids[:i], id) {
			continue
		}
		have := slices.IndexFunc(gpus, func(h held) bool { return h.GPU.UUID == d.GPU.UUID })
		if have < 0 {
			have = len(gpus)
			gpus = append(gpus, held{Device: d})
		}
		if d.Use.Mode == ModeShared {
			gpus[have].slices++
		}
	}
	slices.SortFunc(gpus, func(a, b held) int { return a.GPU.Index - b.GPU.Index })
	return gpus, nil
}

func (h held) memory() uint64 {
	if h.slices == 0 {
		return h.GPU.MemoryMiB
	}
	return h.GPU.MemoryMiB * uint64(h.slices) / uint64(h.Use.Slices)
}

func (h held) share() string {
	if h.slices == 0 || h.slices == h.Use.Slices {
		return "1"
	}
	text := strconv.FormatFloat(float64(h.slices)/float64(h.Use.Slices), 'f', 6, 64)
	return strings.TrimRight(text, "0")
}

// addMPS points the task to the MPS daemon of its GPU, and has the driver hold
// it to its part. A process speaks to one daemon, and each GPU has its own.
func (r *Reservation) addMPS(c Config, gpus []held) error {
	at := slices.IndexFunc(gpus, func(h held) bool { return h.mps() })
	if at < 0 {
		return nil
	}
	h := gpus[at]
	if len(gpus) > 1 {
		return fmt.Errorf("reserve devices: GPU %d is shared by MPS and the task has %d more: a process can use one such GPU only, so ask for slices of one GPU or for whole GPUs", h.GPU.Index, len(gpus)-1)
	}
	pipe := MPSFolder(c.StateDir, h.GPU.UUID).Pipe
	r.Env[EnvMPSPipe] = pipe
	r.Env[EnvMPSThreads] = strconv.Itoa(max(1, 100*h.slices/h.Use.Slices))
	r.Env[EnvMPSMemory] = "0=" + strconv.FormatUint(h.memory(), 10) + "M"
	if !h.GPU.MakeBelieve {
		r.Mounts = append(r.Mounts, pipe)
	}
	return nil
}

func (d Device) mps() bool { return d.Use.Mode == ModeShared && d.Use.Sharing == SharingMPS }

// addRuntime says how the GPUs get into a container: by Docker's nvidia runtime,
// where the node has it, or as device files.
func (r *Reservation) addRuntime(c Config, gpus []held) {
	var uuids []string
	for _, h := range gpus {
		if h.GPU.MakeBelieve {
			continue
		}
		uuids = append(uuids, h.GPU.UUID)
		if h.GPU.Minor >= 0 {
			r.Nodes = append(r.Nodes, "/dev/nvidia"+strconv.Itoa(h.GPU.Minor))
		}
	}
	if len(uuids) == 0 {
		return
	}
	if c.NvidiaRuntime {
		r.Env[EnvNvidiaVisible], r.Nodes = strings.Join(uuids, ","), nil
		return
	}
	slices.Sort(r.Nodes)
	r.Nodes = append([]string{"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"}, slices.Compact(r.Nodes)...)
}

// Daemon is an MPS daemon: the GPU that it is of, and where its pipes and its
// logs are.
type Daemon struct {
	UUID, Pipe, Log string
}

// MPSFolder says where the MPS daemon of a GPU keeps what it has.
func MPSFolder(stateDir, uuid string) Daemon {
	return Daemon{UUID: uuid, Pipe: path.Join(stateDir, "mps", uuid, "pipe"), Log: path.Join(stateDir, "mps", uuid, "log")}
}

// Daemons are the MPS daemons that devices need: one for each GPU that there is
// and that is well but for its daemon.
func Daemons(stateDir string, devices []Device) (daemons []Daemon) {
	for _, d := range devices {
		if d.mps() && !d.GPU.MakeBelieve && d.GPU.Trouble == "" {
			daemons = append(daemons, MPSFolder(stateDir, d.GPU.UUID))
		}
	}
	return daemons
}
