package redisstore

import (
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// AppendSource is the script, for the golden vectors.
var AppendSource = appendSource

// AppendArgs returns the script's ARGV as the store would send it at now. Call
// it before the store is used.
func (s *Store) AppendArgs(a Append, now time.Time) ([]any, error) {
	s.now = func() time.Time { return now }
	return s.appendArgs(&a)
}

// Shard and Slot are for the golden vectors.
func Shard(encodedID string) int { return shard(encodedID) }
func Slot(key string) int        { return slotOf(key) }

// Lasting says whether an error of the server is one that trying again gets
// again.
var Lasting = lasting

// SetNow sets the store's clock. Call it before the store is used.
func (s *Store) SetNow(now func() time.Time) { s.now = now }

// LeaveArgs returns the ARGV of leave.lua.
func LeaveArgs(p Producer) []string {
	var args []string
	for _, arg := range leaveArgs(p) {
		args = append(args, fmt.Sprint(arg))
	}
	return args
}

// For the tests of what nodes say about slots.
var (
	ParseNodes = parseNodes
	Reachable  = reachable
)

// Masters returns the masters of some slots by the views of several nodes:
// each is CLUSTER SLOTS and CLUSTER NODES.
func Masters(ranges [][]redis.ClusterSlot, nodes []string, slots ...int) []string {
	var views []view
	for i := range ranges {
		v := view{ranges: ranges[i]}
		v.epochs, v.moving = parseNodes(nodes[i])
		views = append(views, v)
	}
	l := combine(views)
	var masters []string
	for _, slot := range slots {
		masters = append(masters, l.of(slot))
	}
	return masters
}
