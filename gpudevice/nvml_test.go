//go:build cgo && linux

package gpudevice

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/gpushare"
)

// rig is a driver that does as the test says.
type rig struct {
	mu      sync.Mutex
	init    nvml.Return
	count   nvml.Return
	devices []nvml.Device // nil: it is lost
	events  chan nvml.EventData
	broken  chan struct{} // closed: waiting for events fails
	inits   int
}

func newRig(devices ...nvml.Device) *rig {
	return &rig{devices: devices, events: make(chan nvml.EventData), broken: make(chan struct{})}
}

func (r *rig) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

func (r *rig) open(t *testing.T) *driver {
	t.Helper()
	lib := &mock.Interface{
		InitFunc: func() nvml.Return {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.inits++
			return r.init
		},
		DeviceGetCountFunc: func() (int, nvml.Return) {
			r.mu.Lock()
			defer r.mu.Unlock()
			return len(r.devices), r.count
		},
		DeviceGetHandleByIndexFunc: func(i int) (nvml.Device, nvml.Return) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.devices[i] == nil {
				return nil, nvml.ERROR_GPU_IS_LOST
			}
			return r.devices[i], nvml.SUCCESS
		},
		DeviceGetHandleByUUIDFunc: func(uuid string) (nvml.Device, nvml.Return) {
			for _, d := range r.devices {
				if id, _ := d.GetUUID(); id == uuid {
					return d, nvml.SUCCESS
				}
			}
			return nil, nvml.ERROR_NOT_FOUND
		},
		ShutdownFunc:               func() nvml.Return { return nvml.SUCCESS },
		SystemGetDriverVersionFunc: func() (string, nvml.Return) { return "550.54", nvml.SUCCESS },
		EventSetCreateFunc:         func() (nvml.EventSet, nvml.Return) { return r.eventSet(), nvml.SUCCESS },
	}
	d := newDriver(lib, hclog.NewNullLogger())
	t.Cleanup(d.Close)
	return d
}

func (r *rig) eventSet() nvml.EventSet {
	free := func() nvml.Return { return nvml.SUCCESS }
	return &mock.EventSet{FreeFunc: free, WaitFunc: func(uint32) (nvml.EventData, nvml.Return) {
		select {
		case e := <-r.events:
			return e, nvml.SUCCESS
		case <-r.broken:
			return nvml.EventData{}, nvml.ERROR_GPU_IS_LOST
		case <-time.After(time.Millisecond):
			return nvml.EventData{}, nvml.ERROR_TIMEOUT
		}
	}}
}

func gpuMock(uuid string) *mock.Device {
	return &mock.Device{
		GetUUIDFunc:        func() (string, nvml.Return) { return uuid, nvml.SUCCESS },
		GetNameFunc:        func() (string, nvml.Return) { return "NVIDIA H100", nvml.SUCCESS },
		GetMinorNumberFunc: func() (int, nvml.Return) { return 3, nvml.SUCCESS },
		GetMemoryInfoFunc: func() (nvml.Memory, nvml.Return) {
			return nvml.Memory{Total: 80 << 30, Used: 3 << 30}, nvml.SUCCESS
		},
		GetPciInfoFunc: func() (nvml.PciInfo, nvml.Return) {
			info := nvml.PciInfo{}
			for i, c := range []byte("00000000:3B:00.0") {
				info.BusId[i] = c
			}
			return info, nvml.SUCCESS
		},
		GetBAR1MemoryInfoFunc:        func() (nvml.BAR1Memory, nvml.Return) { return nvml.BAR1Memory{Bar1Total: 128 << 30}, nvml.SUCCESS },
		GetPowerManagementLimitFunc:  func() (uint32, nvml.Return) { return 700_000, nvml.SUCCESS },
		GetMaxClockInfoFunc:          func(c nvml.ClockType) (uint32, nvml.Return) { return 1000 + uint32(c), nvml.SUCCESS },
		GetMaxPcieLinkGenerationFunc: func() (int, nvml.Return) { return 5, nvml.SUCCESS },
		GetMaxPcieLinkWidthFunc:      func() (int, nvml.Return) { return 16, nvml.SUCCESS },
		GetPersistenceModeFunc:       func() (nvml.EnableState, nvml.Return) { return nvml.FEATURE_ENABLED, nvml.SUCCESS },
		GetDisplayModeFunc:           func() (nvml.EnableState, nvml.Return) { return nvml.FEATURE_DISABLED, nvml.SUCCESS },
		GetTotalEccErrorsFunc:        noErrors,
		GetMigModeFunc:               func() (int, int, nvml.Return) { return 0, 0, nvml.ERROR_NOT_SUPPORTED },
		GetSupportedEventTypesFunc:   func() (uint64, nvml.Return) { return nvml.EventTypeXidCriticalError, nvml.SUCCESS },
		RegisterEventsFunc:           func(uint64, nvml.EventSet) nvml.Return { return nvml.SUCCESS },
		GetDecoderUtilizationFunc:    func() (uint32, uint32, nvml.Return) { return 5, 0, nvml.SUCCESS },
		GetPowerUsageFunc:            func() (uint32, nvml.Return) { return 99_500, nvml.SUCCESS },
		GetTemperatureFunc:           func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 61, nvml.SUCCESS },
		GetEncoderUtilizationFunc:    func() (uint32, uint32, nvml.Return) { return 0, 0, nvml.ERROR_NOT_SUPPORTED },
		GetUtilizationRatesFunc:      func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{Gpu: 42, Memory: 7}, nvml.SUCCESS },
	}
}

func noErrors(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) {
	return 0, nvml.ERROR_NOT_SUPPORTED
}

func TestLook(t *testing.T) {
	t.Parallel()
	got := newRig(gpuMock("GPU-a")).open(t).Look()
	want := gpushare.Sight{Failed: map[int]string{}, GPUs: []gpushare.GPU{{
		UUID: "GPU-a", Minor: 3, Model: "NVIDIA H100", PCI: "00000000:3B:00.0", MemoryMiB: 80 << 10, BAR1MiB: 128 << 10, PowerW: 700,
		CoresClockMHz: 1000, MemoryClockMHz: 1002, PCIBandwidthMBps: 63008, DriverVersion: "550.54",
		DisplayState: "Disabled", PersistenceMode: "Enabled",
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLookWithoutDriver(t *testing.T) {
	t.Parallel()
	r := newRig(gpuMock("GPU-a"))
	r.init = nvml.ERROR_LIBRARY_NOT_FOUND
	d := r.open(t)
	if got := d.Look(); !strings.Contains(got.Absent, "is the NVIDIA driver installed?") || len(got.GPUs) > 0 {
		t.Errorf("got %+v", got)
	}
	r.set(func() { r.init = nvml.SUCCESS })
	if got := d.Look(); got.Absent != "" || len(got.GPUs) != 1 {
		t.Errorf("installed later: got %+v", got)
	}
}

func TestDriverGoesAndComesBack(t *testing.T) {
	t.Parallel()
	r := newRig(gpuMock("GPU-a"))
	d := r.open(t)
	d.Look()
	r.set(func() { r.count = nvml.ERROR_DRIVER_NOT_LOADED })
	if got := d.Look(); !strings.Contains(got.Absent, "not loaded") {
		t.Errorf("got %+v", got)
	}
	r.set(func() { r.count = nvml.SUCCESS })
	if got := d.Look(); got.Absent != "" || len(got.GPUs) != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestLostGPU(t *testing.T) {
	t.Parallel()
	r := newRig(gpuMock("GPU-a"), nil)
	got := r.open(t).Look()
	if len(got.GPUs) != 1 || got.Failed[1] == "" {
		t.Errorf("got %+v", got)
	}
}

func TestECC(t *testing.T) {
	t.Parallel()
	gpu := gpuMock("GPU-a")
	gpu.GetTotalEccErrorsFunc = func(kind nvml.MemoryErrorType, counter nvml.EccCounterType) (uint64, nvml.Return) {
		if kind != nvml.MEMORY_ERROR_TYPE_UNCORRECTED || counter != nvml.VOLATILE_ECC {
			return 100, nvml.SUCCESS
		}
		return 2, nvml.SUCCESS
	}
	if got := newRig(gpu).open(t).Look(); !strings.Contains(got.GPUs[0].Trouble, "2 uncorrected") {
		t.Errorf("got %+v", got.GPUs)
	}
}

func TestMIG(t *testing.T) {
	t.Parallel()
	gpu, part := gpuMock("GPU-a"), gpuMock("MIG-a")
	part.GetNameFunc = func() (string, nvml.Return) { return "NVIDIA H100 MIG 1g.10gb", nvml.SUCCESS }
	part.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return nvml.Memory{Total: 10 << 30}, nvml.SUCCESS }
	gpu.GetMigModeFunc = func() (int, int, nvml.Return) { return nvml.DEVICE_MIG_ENABLE, 0, nvml.SUCCESS }
	gpu.GetMaxMigDeviceCountFunc = func() (int, nvml.Return) { return 7, nvml.SUCCESS }
	gpu.GetMigDeviceHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i != 4 {
			return nil, nvml.ERROR_NOT_FOUND
		}
		return part, nvml.SUCCESS
	}
	got := newRig(gpu, gpuMock("GPU-b")).open(t).Look().GPUs
	if len(got) != 3 || !got[0].Cut || got[1].Cut {
		t.Fatalf("got %+v", got)
	}
	mig := got[2]
	if mig.UUID != "MIG-a" || mig.MIG != "1g.10gb" || mig.Parent != "GPU-a" || mig.Index != 2 || mig.MemoryMiB != 10<<10 || mig.Model != "NVIDIA H100" || mig.Cut {
		t.Errorf("got %+v", mig)
	}
}

func TestXID(t *testing.T) {
	t.Parallel()
	r := newRig(gpuMock("GPU-a"), gpuMock("GPU-b"))
	d := r.open(t)
	d.Look()
	r.events <- nvml.EventData{Device: r.devices[1], EventType: nvml.EventTypeXidCriticalError, EventData: 13} // a program's fault
	r.events <- nvml.EventData{Device: r.devices[1], EventType: nvml.EventTypeXidCriticalError, EventData: 79}
	<-d.Woken()
	got := d.Look().GPUs
	if got[0].Trouble != "" || !strings.Contains(got[1].Trouble, "XID 79") {
		t.Errorf("got troubles %q, %q", got[0].Trouble, got[1].Trouble)
	}

	// Loaded anew, the driver has put it right.
	r.set(func() { r.count = nvml.ERROR_UNINITIALIZED })
	d.Look()
	r.set(func() { r.count = nvml.SUCCESS })
	if got = d.Look().GPUs; got[1].Trouble != "" {
		t.Errorf("after the driver was loaded anew: %q", got[1].Trouble)
	}
}

func TestWatchThatFails(t *testing.T) {
	t.Parallel()
	r := newRig(gpuMock("GPU-a"))
	d := r.open(t)
	d.Look()
	close(r.broken)
	<-d.Woken() // a look finds out why
}

func TestUsage(t *testing.T) {
	t.Parallel()
	d := newRig(gpuMock("GPU-a")).open(t)
	if _, ok := d.Usage("GPU-a"); ok {
		t.Error("it answers before it was asked for")
	}
	d.Look()
	u, ok := d.Usage("GPU-a")
	if !ok || *u.UsedMiB != 3<<10 || *u.TotalMiB != 80<<10 || *u.GPUPercent != 42 || *u.PowerLimitW != 700 || u.EncoderPercent != nil {
		t.Errorf("got %+v, %v", u, ok)
	}
	if _, ok = d.Usage("GPU-b"); ok {
		t.Error("there is no such GPU")
	}
}

// TestRealLibrary holds that a machine without a driver does not keep the
// program from running.
func TestRealLibrary(t *testing.T) {
	t.Parallel()
	d := NewDriver(hclog.NewNullLogger())
	defer d.Close()
	sight := d.Look()
	t.Logf("this machine: %+v", sight)
	if sight.Absent == "" && len(sight.GPUs)+len(sight.Failed) == 0 {
		t.Log("there is a driver and no GPU")
	}
}
