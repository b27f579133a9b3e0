package gpuplugin

import (
	"time"

	"github.com/hashicorp/nomad/plugins/device/proto"
	stats "github.com/hashicorp/nomad/plugins/shared/structs/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/serve-nomad/serve-nomad/gpudevice"
	"github.com/serve-nomad/serve-nomad/gpushare"
)

// stats says how much of each GPU is used. Those of a GPU that is shared are at
// its first slice: nobody knows what part of them is whose, and at each slice
// they would be added up.
func (p *plugin) stats(now time.Time) *proto.StatsResponse {
	_, devices := p.current()
	byID := map[string]*proto.DeviceStats{}
	for _, d := range devices {
		if usage, ok := p.usage(d.GPU); ok {
			byID[d.InstanceIDs()[0]] = deviceStats(usage, d.GPU.MakeBelieve, now)
		}
	}
	response := &proto.StatsResponse{}
	for _, g := range gpushare.Groups(devices) {
		group := &proto.DeviceGroupStats{Vendor: gpushare.Vendor, Type: g.Type, Name: g.Name, InstanceStats: map[string]*proto.DeviceStats{}}
		for _, instance := range g.Instances {
			if s := byID[instance.ID]; s != nil {
				group.InstanceStats[instance.ID] = s
			}
		}
		response.Groups = append(response.Groups, group)
	}
	return response
}

// usage asks the driver; a GPU that there is not is idle.
func (p *plugin) usage(gpu gpushare.GPU) (gpudevice.Usage, bool) {
	if !gpu.MakeBelieve {
		return p.driver.Usage(gpu.UUID)
	}
	zero := uint64(0)
	return gpudevice.Usage{
		UsedMiB: &zero, TotalMiB: &gpu.MemoryMiB, GPUPercent: &zero, MemoryPercent: &zero, PowerW: &zero,
	}, true
}

// deviceStats has the names that Nomad's own plugin gave them.
func deviceStats(u gpudevice.Usage, makeBelieve bool, now time.Time) *proto.DeviceStats {
	attributes := map[string]*stats.StatValue{}
	put := func(name, unit, about string, value, of *uint64) {
		if value == nil {
			return
		}
		if makeBelieve {
			about = "make-believe: there is no such GPU"
		}
		stat := &stats.StatValue{IntNumeratorVal: integer(*value), Unit: unit, Desc: about}
		if of != nil {
			stat.IntDenominatorVal = integer(*of)
		}
		attributes[name] = stat
	}
	const memory = "Memory state"
	put(memory, "MiB", "UsedMemory / TotalMemory", u.UsedMiB, u.TotalMiB)
	put("BAR1 buffer state", "MiB", "UsedBAR1 / TotalBAR1", u.BAR1UsedMiB, u.BAR1TotalMiB)
	put("Power usage", "W", "Power usage for this GPU in watts and its limit", u.PowerW, u.PowerLimitW)
	put("GPU utilization", "%", "Percent of time over the past sample period in which one or more kernels ran", u.GPUPercent, nil)
	put("Memory utilization", "%", "Percent of time over the past sample period in which device memory was read or written", u.MemoryPercent, nil)
	put("Encoder utilization", "%", "Percent of time over the past sample period in which the encoder was used", u.EncoderPercent, nil)
	put("Decoder utilization", "%", "Percent of time over the past sample period in which the decoder was used", u.DecoderPercent, nil)
	put("Temperature", "C", "Temperature of the GPU", u.TemperatureC, nil)
	put("ECC memory errors", "", "Uncorrected memory errors since the driver was loaded", u.UncorrectedECC, nil)
	if makeBelieve {
		attributes["Make-believe"] = &stats.StatValue{BoolVal: wrapperspb.Bool(true), Desc: "there is no such GPU"}
	}
	return &proto.DeviceStats{Summary: attributes[memory], Stats: &stats.StatObject{Attributes: attributes}, Timestamp: timestamppb.New(now)}
}

func integer(n uint64) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(n))
}
