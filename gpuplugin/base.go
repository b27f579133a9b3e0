package gpuplugin

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/nomad/plugins/base/proto"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/serve-nomad/serve-nomad/gpushare"
)

// baseService is the service by which Nomad learns what a plugin is and
// configures it.
type baseService struct{ p *plugin }

// PluginInfo says what this is.
func (s *baseService) PluginInfo(context.Context, *proto.PluginInfoRequest) (*proto.PluginInfoResponse, error) {
	return &proto.PluginInfoResponse{
		Type:              proto.PluginType_DEVICE,
		PluginApiVersions: []string{apiVersion},
		PluginVersion:     s.p.version,
		Name:              gpushare.Plugin,
	}, nil
}

// ConfigSchema says what the configuration may have in it. Nomad checks it by
// this, and reports what does not fit with the place.
func (*baseService) ConfigSchema(context.Context, *proto.ConfigSchemaRequest) (*proto.ConfigSchemaResponse, error) {
	return &proto.ConfigSchemaResponse{Spec: schema()}, nil
}

// SetConfig takes the configuration. This is the one call that may fail for what
// the user wrote: Nomad says why and does not start.
func (s *baseService) SetConfig(_ context.Context, r *proto.SetConfigRequest) (*proto.SetConfigResponse, error) {
	settings, err := decode(r.GetMsgpackConfig())
	if err == nil {
		err = s.p.configure(settings)
	}
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, fmt.Sprintf("config: %s", err))
	}
	return &proto.SetConfigResponse{}, nil
}

// decode reads the configuration as Nomad encodes it.
func decode(config []byte) (s gpushare.Settings, err error) {
	if len(config) == 0 {
		return s, nil
	}
	handle := &codec.MsgpackHandle{}
	handle.RawToString = true
	handle.TypeInfos = codec.NewTypeInfos([]string{"codec"})
	if err = codec.NewDecoderBytes(config, handle).Decode(&s); err != nil {
		return s, fmt.Errorf("read what Nomad sent: %w", err)
	}
	return s, nil
}
