package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/pkg/webhook"
)

type pushSecretCommand struct {
	URL string `arg:"" name:"url" help:"Where the receiver takes webhooks, as runs name it."`
	// Secrets are not to be on a command line, where all see them.
	Secrets []string `name:"push-secrets" env:"RUNCAST_PUSH_SECRETS" placeholder:"SECRET,…" help:"The secrets of API and worker; better set by the environment."`
}

// Run prints the receiver's secrets, a line each, the newest first. It asks no
// service.
func (c pushSecretCommand) Run(std streams) error {
	if err := settings.CheckUnknown(settings.EnvOf(os.Environ())); err != nil {
		return err
	}
	keys, err := webhook.ParseKeys(c.Secrets...)
	if err != nil {
		return fmt.Errorf("RUNCAST_PUSH_SECRETS: %w", err)
	}
	if keys.Empty() {
		return errors.New("RUNCAST_PUSH_SECRETS is not set; a receiver's secret is made of it, so it must be the one of API and worker")
	}
	if keys, err = keys.For(c.URL); err != nil {
		return err
	}
	for _, secret := range keys.Secrets() {
		if _, err := fmt.Fprintln(std.out, secret); err != nil {
			return err
		}
	}
	return nil
}
