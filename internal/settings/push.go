package settings

// Push says how runs tell their subscribers, by webhooks. It is the same for
// API and worker. What the lists hold is checked by package webhook.
type Push struct {
	Secrets []string `name:"push-secrets" from:"RUNCAST_PUSH_SECRETS" placeholder:"SECRET,…" help:"Sign webhooks: base64 of 24 to 64 bytes each (openssl rand -base64 32), the newest first. The same for API and worker. Empty: nothing is pushed."`
	Allow   []string `name:"push-allow" from:"RUNCAST_PUSH_ALLOW" placeholder:"NETWORK|HOST:PORT,…" help:"Networks such as 10.1.0.0/16, and hosts with their port, that webhooks may go to although they are private. Without it only public addresses are called."`
}
