//go:build cgo && linux

package gpudevice

import (
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/serve-nomad/serve-nomad/gpushare"
)

func migEnabled(device nvml.Device) bool {
	mode, _, ret := device.GetMigMode()
	return ret == nvml.SUCCESS && mode == nvml.DEVICE_MIG_ENABLE
}

// migInstances reads the instances that a GPU is cut into. What troubles the GPU
// troubles them, and they have its numbers where NVML has none of their own.
func migInstances(device nvml.Device, parent gpushare.GPU) (instances []gpushare.GPU) {
	if !migEnabled(device) {
		return nil
	}
	most, ret := device.GetMaxMigDeviceCount()
	if ret != nvml.SUCCESS {
		return nil
	}
	for i := range most {
		mig, ret := device.GetMigDeviceHandleByIndex(i)
		if ret != nvml.SUCCESS { // no instance has this number
			continue
		}
		gpu := parent
		gpu.Parent = parent.UUID
		name, ret := mig.GetName()
		if ret != nvml.SUCCESS {
			continue
		}
		gpu.MIG = profile(name)
		if gpu.UUID, ret = mig.GetUUID(); ret != nvml.SUCCESS {
			continue
		}
		if memory, ret := mig.GetMemoryInfo(); ret == nvml.SUCCESS {
			gpu.MemoryMiB = memory.Total / mebibyte
		}
		instances = append(instances, gpu)
	}
	return instances
}

// profile is the last part of an instance's name, as in "NVIDIA A100-SXM4-40GB
// MIG 3g.20gb".
func profile(name string) string {
	_, after, found := strings.Cut(name, " MIG ")
	if !found {
		return name
	}
	return after
}
