package nomaddev

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// The pinned agents' module files. They end in .txt because go:embed does not
// reach into a folder that has a go.mod.
//
//go:embed agents/nomad/*.txt agents/consul/*.txt
var moduleFiles embed.FS

// Agent is the program of one agent.
type Agent struct {
	Path    string
	Version Version
	Source  string // "PATH", "cache", "built", or the variable that names it
}

// Agents are the programs that a cluster needs beside serve-nomad itself.
type Agents struct {
	Nomad  Agent
	Consul Agent
}

// Options say where Find looks and where it tells what it does.
type Options struct {
	CacheDir string    // "": os.UserCacheDir()/serve-nomad
	Progress io.Writer // nil: says nothing
}

// kind is what Find knows about one agent.
type kind struct {
	name         string
	module       string
	pinned       string
	env          string // names the program, when set
	major, minor int    // the oldest version that will do
	tags         string
	minutes      string // how long a cold build takes
}

func nomadKind() kind {
	return kind{
		name: "nomad", module: "github.com/hashicorp/nomad", pinned: "1.11.1",
		env: "SERVE_NOMAD_NOMAD_BIN", major: 1, minor: 7, tags: "ui", minutes: "4 to 7 minutes",
	}
}

func consulKind() kind {
	return kind{
		name: "consul", module: "github.com/hashicorp/consul", pinned: "1.20.1",
		env: "SERVE_NOMAD_CONSUL_BIN", major: 1, minor: 16, minutes: "3 to 5 minutes",
	}
}

// Find returns the agents' programs: the ones that SERVE_NOMAD_NOMAD_BIN and
// SERVE_NOMAD_CONSUL_BIN name, else those on PATH when they are new enough
// (Nomad 1.7, Consul 1.16), else the pinned ones from the cache folder, which it
// builds there once when they are missing.
func Find(ctx context.Context, opts Options) (Agents, error) {
	if opts.Progress == nil {
		opts.Progress = io.Discard
	}
	if opts.CacheDir == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return Agents{}, fmt.Errorf("find the cache folder: %w", err)
		}
		opts.CacheDir = filepath.Join(dir, "serve-nomad")
	}
	// One after the other: either build alone takes every core.
	nomad, err := find(ctx, nomadKind(), opts)
	if err != nil {
		return Agents{}, err
	}
	consul, err := find(ctx, consulKind(), opts)
	if err != nil {
		return Agents{}, err
	}
	return Agents{Nomad: nomad, Consul: consul}, nil
}

func find(ctx context.Context, k kind, opts Options) (Agent, error) {
	if path := os.Getenv(k.env); path != "" {
		v, err := programVersion(ctx, path)
		if err != nil {
			return Agent{}, fmt.Errorf("%s=%s: %w", k.env, path, err)
		}
		if !v.AtLeast(k.major, k.minor) {
			return Agent{}, fmt.Errorf("%s=%s: %s %s is too old, %d.%d or newer is needed",
				k.env, path, k.name, v, k.major, k.minor)
		}
		return Agent{Path: path, Version: v, Source: k.env}, nil
	}
	path, why := onPath(ctx, k)
	if why == nil {
		return path, nil
	}
	if ctx.Err() != nil {
		return Agent{}, ctx.Err()
	}
	v, err := ParseVersion(k.pinned)
	if err != nil {
		return Agent{}, err
	}
	cached := k.cachedPath(opts.CacheDir)
	if executable(cached) {
		return Agent{Path: cached, Version: v, Source: "cache"}, nil
	}
	built, err := build(ctx, k, opts, why)
	if err != nil {
		return Agent{}, err
	}
	source := "cache"
	if built {
		source = "built"
	}
	return Agent{Path: cached, Version: v, Source: source}, nil
}

// onPath returns the agent on PATH, or why it is not used.
func onPath(ctx context.Context, k kind) (Agent, error) {
	path, err := exec.LookPath(k.name)
	if err != nil {
		return Agent{}, errors.New("it is not on PATH")
	}
	v, err := programVersion(ctx, path)
	if err != nil {
		return Agent{}, fmt.Errorf("%s cannot be used: %w", path, err)
	}
	if !v.AtLeast(k.major, k.minor) {
		return Agent{}, fmt.Errorf("%s is %s, and %d.%d or newer is needed", path, v, k.major, k.minor)
	}
	if path, err = filepath.Abs(path); err != nil {
		return Agent{}, fmt.Errorf("find %s: %w", k.name, err)
	}
	return Agent{Path: path, Version: v, Source: "PATH"}, nil
}

// programVersion asks a program for its version.
func programVersion(ctx context.Context, path string) (Version, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "-version").Output()
	if err != nil {
		return Version{}, fmt.Errorf("ask %s for its version: %w", path, err)
	}
	return ParseVersion(string(out))
}

// cachedPath is where the pinned program lies once it is built.
func (k kind) cachedPath(cacheDir string) string {
	folder := fmt.Sprintf("%s-%s-%s-%s", k.name, k.pinned, runtime.GOOS, runtime.GOARCH)
	return filepath.Join(cacheDir, "agents", folder, k.name+exeSuffix())
}

func exeSuffix() string {
	if runtime.GOOS == "windows" {
		return ".exe"
	}
	return ""
}

func executable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && (runtime.GOOS == "windows" || st.Mode()&0o111 != 0)
}
