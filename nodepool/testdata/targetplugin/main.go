// Command targetplugin is a target plugin of the Nomad Autoscaler whose cloud is
// a folder: a file for each instance. It adds and removes as the plugins of real
// clouds do, with the same library, and misbehaves when the folder says so.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad-autoscaler/plugins"
	"github.com/hashicorp/nomad-autoscaler/plugins/base"
	"github.com/hashicorp/nomad-autoscaler/sdk"
	"github.com/hashicorp/nomad-autoscaler/sdk/helper/nomad"
	"github.com/hashicorp/nomad-autoscaler/sdk/helper/scaleutils"
	"github.com/hashicorp/nomad/api"
)

func main() {
	plugins.Serve(func(log hclog.Logger) any { return &target{log: log} })
}

type target struct {
	log   hclog.Logger
	cloud string
	utils *scaleutils.ClusterScaleUtils
}

// PluginInfo says what this is; the folder is not known yet.
func (t *target) PluginInfo() (*base.PluginInfo, error) {
	return &base.PluginInfo{Name: "targetplugin", PluginType: sdk.PluginTypeTarget}, nil
}

// SetConfig needs cloud, the folder.
func (t *target) SetConfig(config map[string]string) (err error) {
	t.cloud = config["cloud"]
	if t.cloud == "" {
		return errors.New("cloud is missing")
	}
	t.note("start " + strconv.Itoa(os.Getpid()))
	t.utils, err = scaleutils.NewClusterScaleUtils(nomad.ConfigFromNamespacedMap(config), t.log)
	if err != nil {
		return err
	}
	t.utils.ClusterNodeIDLookupFunc = func(n *api.Node) (string, error) {
		if id := n.Attributes["unique.platform.test.instance"]; id != "" {
			return id, nil
		}
		return "", errors.New("the node has no instance")
	}
	return nil
}

// Status counts the instances, as a cloud's plugin does only if the pool is fine.
func (t *target) Status(config map[string]string) (*sdk.TargetStatus, error) {
	t.misbehave("status")
	switch {
	case t.told("negative"):
		return &sdk.TargetStatus{Ready: true, Count: -3}, nil
	case t.told("huge"):
		return &sdk.TargetStatus{Ready: true, Count: 1 << 40}, nil
	case t.told("unready"):
		return &sdk.TargetStatus{}, nil
	case t.told("blind"):
		return &sdk.TargetStatus{Ready: true, Count: int64(len(t.instances()))}, nil
	}
	ready, err := t.utils.IsPoolReady(config)
	if err != nil || !ready {
		return &sdk.TargetStatus{}, err
	}
	return &sdk.TargetStatus{Ready: true, Count: int64(len(t.instances()))}, nil
}

// Scale adds or removes instances.
func (t *target) Scale(action sdk.ScalingAction, config map[string]string) error {
	t.note(fmt.Sprintf("scale %s to %d", action.Direction, action.Count))
	t.misbehave("scale")
	there := t.instances()
	switch diff := int(action.Count) - len(there); {
	case t.told("stuck"):
		return nil
	case t.told("refuse"):
		return errors.New("quota exceeded")
	case diff > 0:
		for range diff {
			t.add()
		}
		if t.told("slow-cloud") {
			return errors.New("reached retry limit")
		}
	case diff < 0 && t.told("careless"):
		return os.Remove(filepath.Join(t.cloud, there[0]))
	case diff < 0:
		return t.remove(there, -diff, config)
	}
	return nil
}

func (t *target) remove(there []string, num int, config map[string]string) error {
	victims, err := t.utils.RunPreScaleInTasksWithRemoteCheck(context.Background(), config, there, num)
	if err != nil {
		return fmt.Errorf("failed to perform pre-scale Nomad scale in tasks: %v", err)
	}
	for _, v := range victims {
		t.note("remove " + v.RemoteResourceID)
		if err = os.Remove(filepath.Join(t.cloud, v.RemoteResourceID)); err != nil {
			return err
		}
	}
	return t.utils.RunPostScaleInTasks(context.Background(), config, victims)
}

func (t *target) add() {
	for i := 1; ; i++ {
		f, err := os.OpenFile(filepath.Join(t.cloud, fmt.Sprintf("i-%03d", i)), os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			f.Close()
			return
		}
	}
}

func (t *target) instances() (there []string) {
	entries, err := os.ReadDir(t.cloud)
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "i-") {
			there = append(there, e.Name())
		}
	}
	slices.Sort(there)
	return there
}

// misbehave hangs or dies in a call, once.
func (t *target) misbehave(call string) {
	if os.Remove(filepath.Join(t.cloud, "hang-"+call)) == nil {
		time.Sleep(time.Hour)
	}
	if os.Remove(filepath.Join(t.cloud, "die-"+call)) == nil {
		os.Exit(3)
	}
}

func (t *target) told(what string) bool {
	_, err := os.Stat(filepath.Join(t.cloud, what))
	return err == nil
}

func (t *target) note(line string) {
	f, err := os.OpenFile(filepath.Join(t.cloud, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	fmt.Fprintln(f, line)
}
