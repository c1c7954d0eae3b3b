package main

import (
	"fmt"
	"net"
	"strings"
	"text/tabwriter"

	"github.com/runcast/runcast/cmd/dev/internal/redisurl"
)

// announce says where everything is, and what to try first.
func (d *dev) announce(temporal, redis bool) {
	var b strings.Builder
	b.WriteString("\nRuncast is ready. Ctrl-C stops it.\n\n")
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(what, where string) { fmt.Fprintf(t, "  %s\t%s\n", what, where) }
	row("Dashboard", "http://"+d.SubscriberAddr)
	row("API", "http://"+d.APIAddr)
	row("Worker", "http://"+d.WorkerAddr+"/metrics")
	if temporal {
		row("Temporal", d.TemporalAddr+", namespace default (embedded)")
	} else {
		row("Temporal", d.env["TEMPORAL_ADDRESS"]+" (TEMPORAL_ADDRESS)")
	}
	if d.ui != "" {
		row("Temporal UI", d.ui)
	}
	cli := "redis-cli -u " + redisurl.Redacted(d.env["REDIS_URL"])
	if redis {
		host, port, _ := net.SplitHostPort(d.RedisAddr)
		cli = "redis-cli -p " + port
		if host != "127.0.0.1" {
			cli = "redis-cli -h " + host + " -p " + port
		}
		row("Redis", d.RedisAddr+" (embedded)")
	} else {
		row("Redis", redisurl.Redacted(d.env["REDIS_URL"])+" (REDIS_URL)")
	}
	t.Flush()
	fmt.Fprintf(&b, `
Follow a run, even before it exists, and start it from another terminal:

  curl -sN %[1]s/v1/workflows/order-42/stream
  curl --json '{"type":"ProgressiveWorkflow","id":"order-42","input":{"steps":10,"step_ms":300}}' %[2]s/v1/workflows

Write a message to the agents, as if by SMS; the reply goes %[5]s:

  curl --json '{"text":"log 8h on apollo"}' %[2]s/v1/messages

Read it by hand:

  %[3]s HGETALL '%[4]sworkflow:{order-42}'

`, d.SubscriberAddr, d.APIAddr, cli, d.keyPrefix(), "into the outbox (XRANGE "+d.keyPrefix()+"outbox - +)")
	_, _ = d.out.Write([]byte(b.String())) // nobody reads it if it fails
}

func (d *dev) keyPrefix() string {
	if p := d.env["RUNCAST_KEY_PREFIX"]; p != "" {
		return p + ":"
	}
	return ""
}
