// Package gpushare holds the words and the arithmetic of shared GPUs, which the
// device plugin on a node and those who ask for its devices have to agree on.
//
// Nomad fills one device request from one device group, and gives a whole
// instance to one task. So each shared GPU is a group of its own, of the type
// gpu-share, with as many instances as it has slices: a request for a quarter of
// a GPU is one for two instances of eight, and can never be of two GPUs.
package gpushare

import "strconv"

// Plugin is the name of the device plugin: of its program in Nomad's plugin_dir,
// and of its block in Nomad's configuration.
const Plugin = "serve-nomad-gpu"

// What the devices are called. A shared GPU is of another type than a whole one,
// or a plain request for "nvidia/gpu" would be given a slice.
const (
	Vendor    = "nvidia"
	WholeType = "gpu"       // one instance is one GPU; a group is a model, as in Nomad's own plugin
	ShareType = "gpu-share" // one instance is one slice; a group is one GPU of the node

	WholeDevice = Vendor + "/" + WholeType
	ShareDevice = Vendor + "/" + ShareType
)

// How many slices a shared GPU may have. More than MaxSlices clients are more
// than MPS serves on one GPU, and each is an entry in Nomad's state.
const (
	DefaultSlices = 8
	MaxSlices     = 48
)

// MaxIndex is the highest index of a GPU on a node.
const MaxIndex = 63

// How the processes on one GPU share it.
const (
	SharingMPS       = "mps"        // at the same time, each held to its part by the driver
	SharingTimeSlice = "time-slice" // in turns, and nothing holds them apart
)

// The attributes of a device that requests are held against, beside those that
// Nomad's own plugin has. Those that begin with "unique." are left out of the
// class that Nomad's scheduler computes of a node.
const (
	AttrModel       = "model"        // as the driver says it; a group's name has the index too
	AttrIndex       = "gpu_index"    // shared only: the number of the GPU on the node, from 0
	AttrSlices      = "slices"       // shared only: how many a GPU has
	AttrSharing     = "sharing"      // shared only: SharingMPS or SharingTimeSlice
	AttrMemory      = "memory"       // of the whole GPU, with its unit: "81559 MiB"
	AttrMakeBelieve = "make_believe" // true: there is no such GPU
	AttrUUID        = "unique.uuid"  // shared only
)

// What a task finds in its environment. CUDA reads the first; the second tells
// the nvidia runtime of Docker what to hand in. Where a task has several device
// requests, Nomad merges their environments by key and the last one wins; so
// each GPU has a key of its own as well: EnvGPU followed by its index.
const (
	EnvVisible       = "CUDA_VISIBLE_DEVICES"
	EnvNvidiaVisible = "NVIDIA_VISIBLE_DEVICES"
	EnvGPU           = "SERVE_GPU_"             // SERVE_GPU_0=GPU-5f0c...
	EnvShare         = "SERVE_GPU_SHARE"        // of a GPU, "0.25"; "1" for each whole one
	EnvMemory        = "SERVE_GPU_MEMORY_MB"    // that part of one GPU's memory, MiB
	EnvSharing       = "SERVE_GPU_SHARING"      // SharingMPS or SharingTimeSlice; not set for whole GPUs
	EnvMakeBelieve   = "SERVE_GPU_MAKE_BELIEVE" // "1": there is no such GPU
	EnvMPSPipe       = "CUDA_MPS_PIPE_DIRECTORY"
	EnvMPSThreads    = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
	EnvMPSMemory     = "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"
)

// GroupName names the device group of a shared GPU: by its index and not its
// UUID, since Nomad's scheduler takes the names of devices into a node's class,
// and nodes that are alike should stay so.
func GroupName(model string, index int) string { return model + "/gpu" + strconv.Itoa(index) }

// sliceMark is between a GPU's UUID and the number of one of its slices.
const sliceMark = "::"

// SliceID is the instance id of slice n, from 0, of a shared GPU. It is unique
// on the node, over all groups: the plugin is told of nothing else when a task
// is to have it.
func SliceID(uuid string, n int) string {
	number := strconv.Itoa(n)
	if n < 10 {
		number = "0" + number
	}
	return uuid + sliceMark + number
}
