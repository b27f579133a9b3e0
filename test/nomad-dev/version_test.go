package nomaddev

import "testing"

func TestParseVersion(t *testing.T) {
	for _, tc := range []struct{ name, output, want string }{
		{"reads what nomad prints", "Nomad v1.11.1\nBuildDate 2026-01-01T00:00:00Z\n", "1.11.1"},
		{"reads what consul prints", "Consul v1.20.1\nRevision abc\n", "1.20.1"},
		{"reads a pre-release", "Nomad v1.12.0-beta.1\n", "1.12.0-beta.1"},
		{"leaves an edition out", "Nomad v1.10.3+ent\n", "1.10.3"},
		{"reads a pinned version", "1.11.1", "1.11.1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParseVersion(tc.output)
			if err != nil || got.String() != tc.want {
				t.Errorf("got %s, %v; want %s", got, err, tc.want)
			}
		})
	}
	for _, output := range []string{"", "bash: nomad: not found", "Nomad v1.11", "Nomad v99999999999999999999.1.1"} {
		t.Run("refuses "+output, func(t *testing.T) {
			if got, err := ParseVersion(output); err == nil {
				t.Errorf("got %s, want an error", got)
			}
		})
	}
}

func TestAtLeast(t *testing.T) {
	for _, tc := range []struct {
		version string
		want    bool
	}{
		{"1.6.9", false}, {"1.7.0", true}, {"1.7.0-rc.1", true}, {"1.11.1", true}, {"2.0.0", true}, {"0.12.3", false},
	} {
		v, err := ParseVersion(tc.version)
		if err != nil {
			t.Fatal(err)
		}
		if got := v.AtLeast(1, 7); got != tc.want {
			t.Errorf("%s at least 1.7: %t, want %t", tc.version, got, tc.want)
		}
	}
}
