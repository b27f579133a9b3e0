package gpuplugin

import (
	"github.com/hashicorp/nomad/plugins/device/proto"
	structs "github.com/hashicorp/nomad/plugins/shared/structs/proto"

	"github.com/serve-nomad/serve-nomad/gpushare"
)

func fingerprintResponse(groups []gpushare.Group) *proto.FingerprintResponse {
	response := &proto.FingerprintResponse{}
	for _, g := range groups {
		group := &proto.DeviceGroup{
			Vendor: gpushare.Vendor, DeviceType: g.Type, DeviceName: g.Name,
			Attributes: map[string]*structs.Attribute{},
		}
		for _, instance := range g.Instances {
			group.Devices = append(group.Devices, detectedDevice(instance))
		}
		for name, a := range g.Attributes {
			group.Attributes[name] = attributeValue(a)
		}
		response.DeviceGroup = append(response.DeviceGroup, group)
	}
	return response
}

func detectedDevice(i gpushare.Instance) *proto.DetectedDevice {
	device := &proto.DetectedDevice{ID: i.ID, Healthy: i.Trouble == "", HealthDescription: i.Trouble}
	if i.PCI != "" {
		device.HwLocality = &proto.DeviceLocality{PciBusId: i.PCI}
	}
	return device
}

func attributeValue(a gpushare.Attribute) *structs.Attribute {
	switch value := a.Value.(type) {
	case int64:
		return &structs.Attribute{Value: &structs.Attribute_IntVal{IntVal: value}, Unit: a.Unit}
	case bool:
		return &structs.Attribute{Value: &structs.Attribute_BoolVal{BoolVal: value}}
	case string:
		return &structs.Attribute{Value: &structs.Attribute_StringVal{StringVal: value}}
	}
	return &structs.Attribute{Value: &structs.Attribute_StringVal{}} // gpushare.Attribute has no other
}

func containerReservation(r gpushare.Reservation) *proto.ContainerReservation {
	c := &proto.ContainerReservation{Envs: r.Env}
	for _, folder := range r.Mounts {
		c.Mounts = append(c.Mounts, &proto.Mount{TaskPath: folder, HostPath: folder})
	}
	for _, node := range r.Nodes {
		c.Devices = append(c.Devices, &proto.DeviceSpec{TaskPath: node, HostPath: node, Permissions: "rw"})
	}
	return c
}
