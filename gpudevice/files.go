package gpudevice

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/serve-nomad/serve-nomad/gpushare"
)

// Happenings reads the state file of make-believe GPUs. Where there is none, all
// is well with them.
func Happenings(file string) (map[string]gpushare.Happening, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what happened to make-believe GPUs: %w", err)
	}
	happened := map[string]gpushare.Happening{}
	if err = json.Unmarshal(text, &happened); err != nil {
		return nil, fmt.Errorf(`read what happened to make-believe GPUs in %s: want {"0": {"lost": true}}: %w`, file, err)
	}
	return happened, nil
}

const (
	folderMode = 0o755 // tasks of any user enter the folders of MPS
	fileMode   = 0o644
)

// AnnouncedFile is where it is kept how GPUs were announced.
func AnnouncedFile(stateDir string) string { return filepath.Join(stateDir, "announced.json") }

// ReadAnnounced reads how GPUs were announced. Nothing was where there is no
// file; one that cannot be read counts as none, and the error says so.
func ReadAnnounced(stateDir string) (gpushare.Announced, error) {
	text, err := os.ReadFile(AnnouncedFile(stateDir))
	if errors.Is(err, fs.ErrNotExist) {
		return gpushare.Announced{}, nil
	}
	if err != nil {
		return gpushare.Announced{}, fmt.Errorf("read how GPUs were announced: %w", err)
	}
	var announced gpushare.Announced
	if err = json.Unmarshal(text, &announced); err != nil {
		return gpushare.Announced{}, fmt.Errorf("read how GPUs were announced in %s: remove it if nothing else helps: %w", AnnouncedFile(stateDir), err)
	}
	return announced, nil
}

// WriteAnnounced replaces the file as a whole, so that a crash leaves the old
// one or the new one.
func WriteAnnounced(stateDir string, announced gpushare.Announced) error {
	text, err := json.MarshalIndent(announced, "", "  ")
	if err != nil {
		return fmt.Errorf("remember how GPUs are announced: %w", err)
	}
	if err = os.MkdirAll(stateDir, folderMode); err != nil {
		return fmt.Errorf("remember how GPUs are announced: %w", err)
	}
	file, err := os.CreateTemp(stateDir, "announced-*")
	if err != nil {
		return fmt.Errorf("remember how GPUs are announced: %w", err)
	}
	_, err = file.Write(append(text, '\n'))
	err = errors.Join(err, file.Chmod(fileMode), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), AnnouncedFile(stateDir))
	}
	if err != nil {
		os.Remove(file.Name()) //nolint:errcheck // what stays is no more than a file with another name
		return fmt.Errorf("remember how GPUs are announced: %w", err)
	}
	return nil
}

// BootID tells one run of the machine from the next; "": it cannot be told.
func BootID() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// Existing returns those of some files that there are.
func Existing(files []string) (there []string) {
	for _, file := range files {
		if _, err := os.Stat(file); err == nil {
			there = append(there, file)
		}
	}
	return there
}
