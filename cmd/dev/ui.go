package main

import (
	"context"

	uiserver "github.com/temporalio/ui-server/v2/server"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	uioptions "github.com/temporalio/ui-server/v2/server/server_options"

	"github.com/runcast/runcast/cmd/dev/internal/embedded"
	"github.com/runcast/runcast/cmd/dev/internal/ports"
)

// startUI starts Temporal's own web UI on the embedded Temporal server.
func (d *dev) startUI() error {
	host, port, err := ports.Split(d.TemporalUIAddr)
	if err != nil {
		return err
	}
	server := uiserver.NewServer(uioptions.WithConfigProvider(&uiconfig.Config{
		Host:                host,
		Port:                port,
		TemporalGRPCAddress: d.TemporalAddr,
		DefaultNamespace:    embedded.Namespace,
		EnableUI:            true,
		DisableNewsFetch:    true,
		HideLogs:            true,
		// It is served without TLS.
		CORS: uiconfig.CORS{CookieInsecure: true},
	}))
	// Start returns when the server has been stopped.
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Start() // it ends the process itself if it cannot listen
	}()
	d.group.Add("Temporal UI", func(context.Context) error {
		server.Stop()
		<-done
		return nil
	})
	d.ui = "http://" + d.TemporalUIAddr
	return nil
}
