//go:build cgo && linux

package gpudevice

import "github.com/NVIDIA/go-nvml/pkg/nvml"

// Usage reads how much of a GPU is used. Of MIG instances NVML knows the memory.
func (d *driver) Usage(uuid string) (Usage, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.up {
		return Usage{}, false
	}
	device, ret := d.lib.DeviceGetHandleByUUID(uuid)
	if ret != nvml.SUCCESS {
		return Usage{}, false
	}
	memory, ret := device.GetMemoryInfo()
	if ret != nvml.SUCCESS {
		return Usage{}, false
	}
	u := Usage{UsedMiB: new(memory.Used / mebibyte), TotalMiB: new(memory.Total / mebibyte)}
	if rates, ret := device.GetUtilizationRates(); ret == nvml.SUCCESS {
		u.GPUPercent, u.MemoryPercent = new(uint64(rates.Gpu)), new(uint64(rates.Memory))
	}
	if percent, _, ret := device.GetEncoderUtilization(); ret == nvml.SUCCESS {
		u.EncoderPercent = new(uint64(percent))
	}
	if percent, _, ret := device.GetDecoderUtilization(); ret == nvml.SUCCESS {
		u.DecoderPercent = new(uint64(percent))
	}
	if power, ret := device.GetPowerUsage(); ret == nvml.SUCCESS {
		u.PowerW = new(uint64(power) / milliwatt)
	}
	if limit, ret := device.GetPowerManagementLimit(); ret == nvml.SUCCESS {
		u.PowerLimitW = new(uint64(limit) / milliwatt)
	}
	if celsius, ret := device.GetTemperature(nvml.TEMPERATURE_GPU); ret == nvml.SUCCESS {
		u.TemperatureC = new(uint64(celsius))
	}
	if errs, ret := device.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC); ret == nvml.SUCCESS {
		u.UncorrectedECC = new(errs)
	}
	if bar1, ret := device.GetBAR1MemoryInfo(); ret == nvml.SUCCESS {
		u.BAR1UsedMiB, u.BAR1TotalMiB = new(bar1.Bar1Used/mebibyte), new(bar1.Bar1Total/mebibyte)
	}
	return u, true
}
