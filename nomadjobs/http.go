package nomadjobs

import (
	"crypto/tls"
	"fmt"
	"net/http"

	"github.com/hashicorp/nomad/api"
)

// HTTPClient returns a client for others who speak to Nomad beside this package,
// with TLS by Nomad's own variables (NOMAD_CACERT and its like). Its calls end
// only with their contexts.
func HTTPClient() (*http.Client, error) {
	client := &http.Client{Transport: &http.Transport{
		Proxy:           http.ProxyFromEnvironment,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}}
	if err := api.ConfigureTLS(client, api.DefaultConfig().TLSConfig); err != nil {
		return nil, fmt.Errorf("set up TLS for Nomad: %w", err)
	}
	return client, nil
}
