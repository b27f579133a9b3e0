//go:build cgo && linux

package gpudevice

import (
	"sync"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/serve-nomad/serve-nomad/gpushare"
)

// waitMS is how long NVML waits for an event, and with that how long the watch
// may take to end.
const waitMS = 1000

// watch waits for the events of all GPUs. Of some that NVML reports no other
// call knows.
type watch struct {
	set  nvml.EventSet
	stop chan struct{}
	done sync.WaitGroup
}

// startWatch registers for the events of each GPU that has some. Without them
// the looks still find a GPU that is lost or whose memory fails.
func (d *driver) startWatch() {
	set, ret := d.lib.EventSetCreate()
	if ret != nvml.SUCCESS {
		d.log.Warn("the driver reports no XID errors: only GPUs that stop to answer are found", "error", ret.Error())
		return
	}
	count, _ := d.lib.DeviceGetCount() // 0 where it fails
	watched := 0
	for i := range count {
		device, ret := d.lib.DeviceGetHandleByIndex(i)
		if ret != nvml.SUCCESS {
			continue
		}
		const wanted = nvml.EventTypeXidCriticalError | nvml.EventTypeDoubleBitEccError
		supported, ret := device.GetSupportedEventTypes()
		if ret == nvml.SUCCESS && supported&wanted != 0 && device.RegisterEvents(supported&wanted, set) == nvml.SUCCESS {
			watched++
		}
	}
	if watched == 0 {
		set.Free() //nolint:errcheck // nothing waits on it
		return
	}
	w := &watch{set: set, stop: make(chan struct{})}
	w.done.Go(func() { d.wait(w) })
	d.watch = w
}

// stopWatch waits for the watch to end, which takes no lock of the driver's.
func (d *driver) stopWatch() {
	w := d.watch
	if w == nil {
		return
	}
	d.watch = nil
	close(w.stop)
	w.done.Wait()
	w.set.Free() //nolint:errcheck // the driver may be gone already
}

func (d *driver) wait(w *watch) {
	for {
		select {
		case <-w.stop:
			return
		default:
		}
		event, ret := w.set.Wait(waitMS)
		switch ret {
		case nvml.SUCCESS:
			d.take(event)
		case nvml.ERROR_TIMEOUT:
		default: // the driver went away, or a GPU did: a look says which
			d.wake()
			<-w.stop
			return
		}
	}
}

// take notes what an event says of its GPU.
func (d *driver) take(event nvml.EventData) {
	trouble := "the driver reported a memory error that could not be corrected"
	if event.EventType == nvml.EventTypeXidCriticalError {
		trouble = gpushare.XIDTrouble(event.EventData)
	}
	if trouble == "" || event.Device == nil {
		return
	}
	uuid, ret := event.Device.GetUUID()
	d.log.Error("a GPU is in trouble", "gpu", uuid, "trouble", trouble)
	if ret == nvml.SUCCESS {
		d.reported.add(uuid, trouble)
	}
	d.wake()
}

func (d *driver) wake() {
	select {
	case d.woken <- struct{}{}:
	default:
	}
}

// reports are what the driver reported of GPUs since it was loaded.
type reports struct {
	mu      sync.Mutex
	trouble map[string]string // by UUID
}

func (r *reports) add(uuid, trouble string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.trouble == nil {
		r.trouble = map[string]string{}
	}
	r.trouble[uuid] = trouble
}

func (r *reports) of(uuid string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.trouble[uuid]
}

func (r *reports) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.trouble)
}
