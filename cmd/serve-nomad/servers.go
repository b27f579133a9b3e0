package main

import (
	"context"
	"runtime"
	"runtime/debug"

	"github.com/hashicorp/cli"

	"github.com/serve-nomad/serve-nomad/api"
)

type serversCommand struct{ *command }

func newServersCommand(b *base) cli.Command {
	c := &serversCommand{command: newCommand(b, "servers", helpText{
		synopsis: "List the servers and which of them leads",
		about:    "Lists the servers of the control plane, as the server at -address knows them.",
		examples: "$ serve-nomad servers\n$ serve-nomad servers -address=http://10.0.0.5:8265",
		exits:    "0  a server leads\n1  no server leads, or none answered; why is on standard error\n2  the command line is wrong; nothing was done\n130  interrupted",
	})}
	c.maxArgs, c.run = 0, c.servers
	return c
}

// serverList is what servers -json prints.
type serverList struct {
	Self  api.ServerInfo `json:"self"`
	Peers []api.Peer     `json:"peers"`
}

func (c *serversCommand) servers(ctx context.Context, _ []string) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	self, err := client.Self(ctx)
	if err != nil {
		return err
	}
	peers, err := client.Peers(ctx)
	if err != nil {
		return err
	}
	led := false
	var rows [][]string
	for _, p := range peers {
		role, voter, answers := "follower", "yes", ""
		if p.Leader {
			role, led = "leader", true
		}
		if !p.Voter {
			voter = "no"
		}
		if p.ID == self.ID {
			answers = "this one"
		}
		rows = append(rows, []string{p.ID, p.Address, role, voter, answers})
	}
	if c.json {
		c.printJSON(serverList{self, peers})
	} else {
		c.printf("%s", table([]string{"ID", "Raft Address", "Role", "Voter", "Answers"}, rows))
	}
	if !led {
		c.errorf("No server leads: an election is under way, fewer than half of the servers are up, or they cannot write to their data_dir, which their logs would say.")
		return exitWith(exitError)
	}
	return nil
}

type versionCommand struct{ *command }

func newVersionCommand(b *base) cli.Command {
	c := &versionCommand{command: newLocalCommand(b, "version", helpText{
		synopsis: "Show the version of this program",
		about:    "Shows the version of this program, and of the Go that built it.",
		examples: "$ serve-nomad version\n$ serve-nomad version -json",
	})}
	c.maxArgs, c.run = 0, c.version
	return c
}

func (c *versionCommand) version(context.Context, []string) error {
	if c.json {
		c.printJSON(map[string]string{"version": buildVersion(), "revision": buildRevision(), "go": runtime.Version()})
		return nil
	}
	c.printf("%s\n", versionLine())
	return nil
}

func versionLine() string {
	line := program + " " + buildVersion()
	if revision := buildRevision(); revision != "" {
		line += " (" + short(revision) + ")"
	}
	return line
}

// buildVersion is the module's version, as the Go tool recorded it.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "dev"
	}
	return info.Main.Version
}

func buildRevision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
