package nodepool

import (
	"context"
	"errors"
	"fmt"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
)

// What the Nomad Autoscaler's target plugins speak: gRPC over go-plugin. Its
// messages are few and flat, so they are written here by hand. Its Go module
// would have put another HCL under Nomad's job parser, and the SDKs of four
// clouds into this module's graph.
const (
	pluginInfoMethod      = "/hashicorp.nomad_autoscaler.plugins.base.proto.v1.BasePluginService/PluginInfo"
	pluginSetConfigMethod = "/hashicorp.nomad_autoscaler.plugins.base.proto.v1.BasePluginService/SetConfig"
	pluginStatusMethod    = "/hashicorp.nomad_autoscaler.plugins.target.proto.v1.TargetPluginService/Status"
	pluginScaleMethod     = "/hashicorp.nomad_autoscaler.plugins.target.proto.v1.TargetPluginService/Scale"

	pluginKind       = "target" // its name in go-plugin
	pluginTypeTarget = 3        // PLUGIN_TYPE_TARGET
)

// pluginHandshake is how a program knows that it was started as a plugin of the
// Nomad Autoscaler. It is no secret.
func pluginHandshake() goplugin.HandshakeConfig {
	return goplugin.HandshakeConfig{
		ProtocolVersion:  1,
		MagicCookieKey:   "NOMAD_AUTOSCALER_PLUGIN_MAGIC_COOKIE",
		MagicCookieValue: "e082fa04d587a6525d683666fa253d6afda00f20c122c54a80a3ed57fec99ff3",
	}
}

// scaleDirection is what the count is to do, by protobuf.
type scaleDirection uint64

const (
	scaleDown scaleDirection = 2
	scaleUp   scaleDirection = 3
)

func (d scaleDirection) String() string {
	if d == scaleUp {
		return "up"
	}
	return "down"
}

// pluginStatus is what a plugin says of its group.
type pluginStatus struct {
	ready bool
	count int
}

// known says whether count is one: a plugin that is not ready says 0 when it has
// not looked.
func (s pluginStatus) known() bool { return s.ready || s.count > 0 }

// maxPluginCount is beyond any cluster: what is above is no count.
const maxPluginCount = 1_000_000

// encodeConfig is a message with a map<string, string> as field 1.
func encodeConfig(config map[string]string) []byte { return appendMap(nil, 1, config) }

func encodeScale(count int, direction scaleDirection, reason string, config map[string]string) []byte {
	action := protowire.AppendTag(nil, 1, protowire.VarintType)
	action = protowire.AppendVarint(action, uint64(count))
	action = protowire.AppendTag(action, 2, protowire.BytesType)
	action = protowire.AppendString(action, reason)
	action = protowire.AppendTag(action, 4, protowire.VarintType)
	action = protowire.AppendVarint(action, uint64(direction))
	request := protowire.AppendTag(nil, 1, protowire.BytesType)
	request = protowire.AppendBytes(request, action)
	return appendMap(request, 2, config)
}

func appendMap(to []byte, field protowire.Number, m map[string]string) []byte {
	for key, value := range m {
		entry := protowire.AppendTag(nil, 1, protowire.BytesType)
		entry = protowire.AppendString(entry, key)
		entry = protowire.AppendTag(entry, 2, protowire.BytesType)
		entry = protowire.AppendString(entry, value)
		to = protowire.AppendTag(to, field, protowire.BytesType)
		to = protowire.AppendBytes(to, entry)
	}
	return to
}

func decodeStatus(reply []byte) (pluginStatus, error) {
	numbers, _, err := decodeFields(reply)
	if err != nil {
		return pluginStatus{}, err
	}
	count := int64(numbers[2])
	if count < 0 || count > maxPluginCount {
		return pluginStatus{}, fmt.Errorf("it says that its group has %d nodes, which no group can have", count)
	}
	return pluginStatus{ready: numbers[1] != 0, count: int(count)}, nil
}

func decodeInfo(reply []byte) (name string, kind uint64, err error) {
	numbers, texts, err := decodeFields(reply)
	return texts[1], numbers[2], err
}

// decodeFields returns the last value of each field of a message.
func decodeFields(data []byte) (numbers map[protowire.Number]uint64, texts map[protowire.Number]string, err error) {
	numbers, texts = map[protowire.Number]uint64{}, map[protowire.Number]string{}
	for len(data) > 0 {
		field, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return nil, nil, fmt.Errorf("its answer is garbage: %w", protowire.ParseError(n))
		}
		data = data[n:]
		switch kind {
		case protowire.VarintType:
			numbers[field], n = protowire.ConsumeVarint(data)
		case protowire.BytesType:
			texts[field], n = protowire.ConsumeString(data)
		default:
			n = protowire.ConsumeFieldValue(field, kind, data)
		}
		if n < 0 {
			return nil, nil, fmt.Errorf("its answer is garbage: %w", protowire.ParseError(n))
		}
		data = data[n:]
	}
	return numbers, texts, nil
}

// targetPlugin hands out the bare connection, so that each call has a context
// of its own, which the Nomad Autoscaler's interfaces do not have.
type targetPlugin struct {
	goplugin.NetRPCUnsupportedPlugin
}

// GRPCServer is for plugins.
func (targetPlugin) GRPCServer(*goplugin.GRPCBroker, *grpc.Server) error {
	return errors.New("this is a host of plugins")
}

// GRPCClient returns the connection.
func (targetPlugin) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}

// wireCodec passes messages that are encoded already.
type wireCodec struct{}

// Name is that of protobuf's, which plugins expect.
func (wireCodec) Name() string { return "proto" }

// Marshal takes the bytes of a message.
func (wireCodec) Marshal(v any) ([]byte, error) {
	message, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("%T is no encoded message", v)
	}
	return message, nil
}

// Unmarshal copies the bytes of a message, since gRPC uses them again.
func (wireCodec) Unmarshal(data []byte, v any) error {
	message, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("%T takes no encoded message", v)
	}
	*message = append((*message)[:0], data...)
	return nil
}
