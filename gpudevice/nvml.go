//go:build cgo && linux

package gpudevice

import (
	"fmt"
	"sync"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/gpushare"
)

// driver speaks to the driver by NVML, whose library is loaded when it is first
// asked and not when the program starts.
type driver struct {
	lib   nvml.Interface
	log   hclog.Logger
	woken chan struct{}

	mu    sync.Mutex // one call at a time
	up    bool
	watch *watch

	reported reports
}

// NewDriver returns the machine's driver, which may not be there.
func NewDriver(log hclog.Logger) Driver { return newDriver(nvml.New(), log) }

func newDriver(lib nvml.Interface, log hclog.Logger) *driver {
	return &driver{lib: lib, log: log, woken: make(chan struct{}, 1)}
}

func (d *driver) Woken() <-chan struct{} { return d.woken }

func (d *driver) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down()
}

// Look asks a second time of a driver that was there and is another now: it may
// have been loaded anew.
func (d *driver) Look() gpushare.Sight {
	d.mu.Lock()
	defer d.mu.Unlock()
	wasUp := d.up
	sight := d.look()
	if sight.Absent != "" && wasUp {
		return d.look()
	}
	return sight
}

func (d *driver) look() gpushare.Sight {
	if !d.up {
		if ret := d.lib.Init(); ret != nvml.SUCCESS {
			return gpushare.Sight{Absent: absent(ret)}
		}
		d.up = true
		d.reported.forget()
		d.startWatch()
	}
	count, ret := d.lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		d.down()
		return gpushare.Sight{Absent: absent(ret)}
	}
	return d.all(count)
}

func (d *driver) down() {
	if !d.up {
		return
	}
	d.up = false
	d.stopWatch()
	d.lib.Shutdown() //nolint:errcheck // it may be gone already
}

// absent says why there is no driver to ask.
func absent(ret nvml.Return) string {
	switch ret {
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		return "libnvidia-ml.so.1 is not found: is the NVIDIA driver installed?"
	case nvml.ERROR_DRIVER_NOT_LOADED:
		return "the kernel module is not loaded: see nvidia-smi and dmesg"
	default:
		return ret.Error()
	}
}

// all looks at each GPU and its MIG instances, which are numbered after all of
// the GPUs.
func (d *driver) all(count int) gpushare.Sight {
	sight := gpushare.Sight{Failed: map[int]string{}}
	version, _ := d.lib.SystemGetDriverVersion() // "": not known
	var instances []gpushare.GPU
	for i := range count {
		device, ret := d.lib.DeviceGetHandleByIndex(i)
		if ret != nvml.SUCCESS {
			sight.Failed[i] = ret.Error()
			continue
		}
		gpu, err := d.read(device)
		if err != nil {
			sight.Failed[i] = err.Error()
			continue
		}
		gpu.Index, gpu.DriverVersion = i, version
		parts := migInstances(device, gpu)
		gpu.Cut = migEnabled(device)
		sight.GPUs = append(sight.GPUs, gpu)
		instances = append(instances, parts...)
	}
	for i := range instances {
		instances[i].Index = count + i
	}
	sight.GPUs = append(sight.GPUs, instances...)
	return sight
}

// read reads one GPU. Without its name, UUID and memory it is no use; all else
// may be missing, as it is with some models.
func (d *driver) read(device nvml.Device) (gpushare.GPU, error) {
	uuid, ret := device.GetUUID()
	if ret != nvml.SUCCESS {
		return gpushare.GPU{}, fmt.Errorf("read its UUID: %w", ret)
	}
	gpu := gpushare.GPU{UUID: uuid, Minor: -1, Trouble: d.reported.of(uuid)}
	if gpu.Model, ret = device.GetName(); ret != nvml.SUCCESS {
		return gpushare.GPU{}, fmt.Errorf("read its model: %w", ret)
	}
	memory, ret := device.GetMemoryInfo()
	if ret != nvml.SUCCESS {
		return gpushare.GPU{}, fmt.Errorf("read its memory: %w", ret)
	}
	gpu.MemoryMiB = memory.Total / mebibyte
	describe(device, &gpu)
	if gpu.Trouble == "" {
		errs, ret := device.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC)
		if ret == nvml.SUCCESS {
			gpu.Trouble = gpushare.ECCTrouble(errs)
		}
	}
	return gpu, nil
}

const (
	mebibyte  = 1 << 20
	milliwatt = 1000 // to a watt
)

// describe reads what is nice to know.
func describe(device nvml.Device, gpu *gpushare.GPU) {
	if minor, ret := device.GetMinorNumber(); ret == nvml.SUCCESS {
		gpu.Minor = minor
	}
	if pci, ret := device.GetPciInfo(); ret == nvml.SUCCESS {
		gpu.PCI = cString(pci.BusId[:])
	}
	if bar1, ret := device.GetBAR1MemoryInfo(); ret == nvml.SUCCESS {
		gpu.BAR1MiB = bar1.Bar1Total / mebibyte
	}
	if limit, ret := device.GetPowerManagementLimit(); ret == nvml.SUCCESS {
		gpu.PowerW = uint64(limit) / milliwatt
	}
	if clock, ret := device.GetMaxClockInfo(nvml.CLOCK_GRAPHICS); ret == nvml.SUCCESS {
		gpu.CoresClockMHz = uint64(clock)
	}
	if clock, ret := device.GetMaxClockInfo(nvml.CLOCK_MEM); ret == nvml.SUCCESS {
		gpu.MemoryClockMHz = uint64(clock)
	}
	generation, ret1 := device.GetMaxPcieLinkGeneration()
	width, ret2 := device.GetMaxPcieLinkWidth()
	if ret1 == nvml.SUCCESS && ret2 == nvml.SUCCESS {
		gpu.PCIBandwidthMBps = laneMBps(generation) * uint64(max(0, width))
	}
	if display, ret := device.GetDisplayMode(); ret == nvml.SUCCESS {
		gpu.DisplayState = enabled(display)
	}
	if persistence, ret := device.GetPersistenceMode(); ret == nvml.SUCCESS {
		gpu.PersistenceMode = enabled(persistence)
	}
}

func enabled(state nvml.EnableState) string {
	if state == nvml.FEATURE_ENABLED {
		return "Enabled"
	}
	return "Disabled"
}

// laneMBps is what one lane of a generation of PCI Express carries.
func laneMBps(generation int) uint64 {
	lanes := []uint64{0, 250, 500, 985, 1969, 3938, 7563}
	if generation < 0 || generation >= len(lanes) {
		return 0
	}
	return lanes[generation]
}

// cString reads a C string, which NVML's headers have as either kind of byte.
func cString[T int8 | uint8](chars []T) string {
	var text []byte
	for _, c := range chars {
		if c == 0 {
			break
		}
		text = append(text, byte(c))
	}
	return string(text)
}
