// Package redisstore writes and reads workflow progress in Redis, by the
// contract in docs/wire-contract.md: a hash, a stream, a channel and a hash
// of producers per workflow ID, written by one Lua script, and indexes beside
// them. It works with a single server, with Sentinel and with Redis Cluster.
//
// It knows no Temporal and no HTTP.
package redisstore
