// Package subscriber serves the progress of workflows to viewers over HTTP:
// streams (SSE and WebSocket), snapshots, history and lists, from Redis. It
// knows no Temporal, and needs a Redis user that may read and subscribe only.
package subscriber
