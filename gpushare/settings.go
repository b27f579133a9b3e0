package gpushare

// Settings are the plugin's configuration as it is written in Nomad's: an empty
// field is one that is not there.
type Settings struct {
	Mode              string                      `codec:"mode"`
	Slices            *int                        `codec:"slices"`
	Sharing           string                      `codec:"sharing"`
	NvidiaRuntime     bool                        `codec:"nvidia_runtime"`
	FingerprintPeriod string                      `codec:"fingerprint_period"`
	StateDir          string                      `codec:"state_dir"`
	GPUs              map[string]GPUSettings      `codec:"gpu"`
	MakeBelieve       map[string]PretenceSettings `codec:"make_believe"`
}

// GPUSettings are those of one GPU, which the label of the block names.
type GPUSettings struct {
	Mode    string `codec:"mode"`
	Slices  *int   `codec:"slices"`
	Sharing string `codec:"sharing"`
}

// PretenceSettings are those of GPUs that there are not, of the model that the
// label of the block names.
type PretenceSettings struct {
	Mode    string `codec:"mode"`
	Slices  *int   `codec:"slices"`
	Sharing string `codec:"sharing"`
	Count   *int   `codec:"count"`
	Memory  string `codec:"memory"`
	Seed    string `codec:"seed"`
	State   string `codec:"state"`
}
