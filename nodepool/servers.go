package nodepool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// joining is what a machine's agents join.
type joining struct {
	nomad      []string // RPC addresses of Nomad's servers
	region     string   // "": Nomad's default
	consul     []string // serf LAN addresses of Consul's servers
	datacenter string   // of Consul
	ip         string   // of this machine, as the servers reach it
	device     string   // the network interface that has it
}

// join finds out what a machine's agents join: what the configuration names, or
// what the servers' own Nomad and Consul say.
func (p *processTarget) join(ctx context.Context) (joining, error) {
	j := joining{
		nomad: p.config.NomadServers, region: p.config.Region,
		consul: p.config.ConsulServers, datacenter: p.config.ConsulDatacenter,
	}
	if len(j.nomad) == 0 || j.region == "" {
		if err := p.askNomad(ctx, &j); err != nil {
			return j, fmt.Errorf("find Nomad's servers: %w", err)
		}
	}
	if len(j.consul) == 0 || j.datacenter == "" {
		if err := p.askConsul(ctx, &j); err != nil {
			return j, fmt.Errorf("find Consul's servers: %w", err)
		}
	}
	var err error
	if j.ip, j.device, err = ownAddress(ctx, j.nomad[0]); err != nil {
		return j, fmt.Errorf("find the address of this machine that %s reaches: %w", j.nomad[0], err)
	}
	return j, nil
}

func (p *processTarget) askNomad(ctx context.Context, j *joining) error {
	var answer struct {
		ServerRegion string
		Members      []struct {
			Addr, Status string
			Tags         map[string]string
		}
	}
	if err := p.ask(ctx, p.config.NomadAddr, "/v1/agent/members", p.token("nomad"), &answer); err != nil {
		return err
	}
	if j.region == "" {
		j.region = answer.ServerRegion
	}
	if len(j.nomad) > 0 {
		return nil // configured, as this machine reaches them
	}
	for _, m := range answer.Members {
		host := m.Tags["rpc_addr"]
		if host == "" {
			host = m.Addr
		}
		if m.Status == "alive" && m.Tags["role"] == "nomad" && m.Tags["region"] == j.region && m.Tags["port"] != "" {
			j.nomad = append(j.nomad, net.JoinHostPort(host, m.Tags["port"]))
		}
	}
	slices.Sort(j.nomad)
	if len(j.nomad) == 0 {
		return fmt.Errorf("%s names none that is alive in region %q", p.config.NomadAddr, j.region)
	}
	return nil
}

// token is what an agent of that name is shown.
func (p *processTarget) token(name string) http.Header {
	if name == "consul" {
		return http.Header{"X-Consul-Token": {p.config.ConsulToken}}
	}
	return http.Header{"X-Nomad-Token": {p.config.NomadToken}}
}

func (p *processTarget) askConsul(ctx context.Context, j *joining) error {
	var members []struct {
		Addr   string
		Port   int
		Status int
		Tags   map[string]string
	}
	if err := p.ask(ctx, p.config.ConsulAddr, "/v1/agent/members", p.token("consul"), &members); err != nil {
		return err
	}
	const alive = 1
	var found []string
	for _, m := range members {
		if m.Status != alive || m.Tags["role"] != "consul" || j.datacenter != "" && m.Tags["dc"] != j.datacenter {
			continue
		}
		j.datacenter = m.Tags["dc"]
		found = append(found, net.JoinHostPort(m.Addr, strconv.Itoa(m.Port)))
	}
	if len(found) == 0 {
		return fmt.Errorf("%s names none that is alive", p.config.ConsulAddr)
	}
	if len(j.consul) == 0 {
		slices.Sort(found)
		j.consul = found
	}
	return nil
}

// ask reads what an agent's HTTP API answers.
func (p *processTarget) ask(ctx context.Context, address, path string, header http.Header, into any) error {
	if address == "" {
		return errors.New("no address of its HTTP API is configured")
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	status, body, err := p.call(ctx, http.MethodGet, strings.TrimSuffix(address, "/")+path, header, "")
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("%s%s answers %d: %.200s", address, path, status, body)
	}
	if err = json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s%s: %w", address, path, err)
	}
	return nil
}

// call asks once, on a connection of its own: none is kept to an agent that goes.
func (p *processTarget) call(ctx context.Context, method, url string, header http.Header, text string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(text))
	if err != nil {
		return 0, nil, err
	}
	for name, values := range header {
		if values[0] != "" {
			req.Header[name] = values
		}
	}
	req.Close = true
	resp, err := p.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	return resp.StatusCode, body, err
}

// ownAddress is the address that this machine has on the way to a server, and
// the interface that has it. Nothing is sent.
func ownAddress(ctx context.Context, server string) (ip, device string, err error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "udp", server)
	if err != nil {
		return "", "", err
	}
	defer conn.Close()
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return "", "", fmt.Errorf("%s is no address of UDP", conn.LocalAddr())
	}
	devices, err := net.Interfaces()
	if err != nil {
		return "", "", err
	}
	for _, d := range devices {
		addresses, aerr := d.Addrs()
		if aerr != nil {
			continue // it went meanwhile
		}
		for _, a := range addresses {
			if n, isNet := a.(*net.IPNet); isNet && n.IP.Equal(local.IP) {
				return local.IP.String(), d.Name, nil
			}
		}
	}
	return "", "", fmt.Errorf("no network interface has %s", local.IP)
}
