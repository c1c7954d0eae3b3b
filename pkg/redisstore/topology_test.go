package redisstore_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/redisstore"
)

func TestParseNodes(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		epochs     map[string]int64
		moving     []int
	}{
		{"nothing", "", map[string]int64{}, nil},
		{"a master that hands over and takes over",
			"a 10.0.0.1:6379@16379,host myself,master - 0 0 7 connected 0-99 101 [5->-b] [101->-c] [200-<-b]\n" +
				"b 10.0.0.2:6379@16379 master - 0 1795395723456 3 connected 200-300\n" +
				"c 10.0.0.3:6379@16379 slave a 0 1795395723456 7 connected\n",
			map[string]int64{"a": 7, "b": 3}, []int{5, 101}},
		{"a failed one", "a :0@0 master,fail,noaddr - 0 0 2 disconnected 1\n", map[string]int64{"a": 2}, nil},
		{"not of this form", "a b c\n\nd e master f g h i connected [x->-y] [99999->-y] [\n", map[string]int64{"d": 0}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			epochs, moving := redisstore.ParseNodes(tt.text)
			if d := cmp.Diff(tt.epochs, epochs); d != "" {
				t.Error(d)
			}
			if !slices.Equal(moving, tt.moving) {
				t.Errorf("moving %v, want %v", moving, tt.moving)
			}
		})
	}
}

// A master that has been replaced may not know it: the higher epoch counts,
// whoever answers first.
func TestMastersOfSlots(t *testing.T) {
	of := func(start, end int, id string) redis.ClusterSlot {
		return redis.ClusterSlot{Start: start, End: end, Nodes: []redis.ClusterNode{{ID: id, Addr: id + ":1"}, {ID: "r", Addr: "r:1"}}}
	}
	line := func(id, epoch string) string { return id + " addr master - 0 0 " + epoch + " connected\n" }
	old := []redis.ClusterSlot{of(0, 99, "old"), of(100, 16383, "b")}
	now := []redis.ClusterSlot{of(0, 49, "new"), of(50, 99, "new"), of(100, 16383, "b")}
	oldNodes, newNodes := line("old", "1")+line("b", "2"), line("old", "1")+line("new", "3")+line("b", "2")
	for _, tt := range []struct {
		name   string
		ranges [][]redis.ClusterSlot
		nodes  []string
		want   []string // of the slots 0, 99, 100, 16383
	}{
		{"nobody has a slot", [][]redis.ClusterSlot{{}}, []string{""}, []string{"", "", "", ""}},
		{"one view", [][]redis.ClusterSlot{now}, []string{newNodes}, []string{"new:1", "new:1", "b:1", "b:1"}},
		{"the stale one first", [][]redis.ClusterSlot{old, now}, []string{oldNodes, newNodes}, []string{"new:1", "new:1", "b:1", "b:1"}},
		{"the stale one last", [][]redis.ClusterSlot{now, old}, []string{newNodes, oldNodes}, []string{"new:1", "new:1", "b:1", "b:1"}},
		{"no permission to ask for epochs", [][]redis.ClusterSlot{now}, []string{""}, []string{"new:1", "new:1", "b:1", "b:1"}},
		{"slots without a node", [][]redis.ClusterSlot{{of(1, 99, "new"), {Start: 100, End: 16383}}}, []string{newNodes}, []string{"", "new:1", "", ""}},
		{"more slots than there are", [][]redis.ClusterSlot{{of(-5, 99999, "b")}}, []string{newNodes}, []string{"b:1", "b:1", "b:1", "b:1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := redisstore.Masters(tt.ranges, tt.nodes, 0, 99, 100, 16383); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestReachable(t *testing.T) {
	for _, tt := range []struct{ addr, from, want string }{
		{"10.0.0.1:6379", "10.0.0.2:6380", "10.0.0.1:6379"},
		{":6379", "10.0.0.2:6380", "10.0.0.2:6379"},
		{"?:6379", "10.0.0.2:6380", "10.0.0.2:6379"},
		{"127.0.0.1:6379", "10.0.0.2:6380", "10.0.0.2:6379"},
		{"127.0.0.1:6379", "127.0.0.2:6380", "127.0.0.1:6379"},
		{"127.0.0.1:6379", "localhost:6380", "127.0.0.1:6379"},
		{"node:0", "seed:6380", "node:6380"},
		{"[::1]:6379", "10.0.0.2:6380", "10.0.0.2:6379"},
		{"no address", "10.0.0.2:6380", "no address"},
		{"node:1", "no address", "node:1"},
	} {
		if got := redisstore.Reachable(tt.addr, tt.from); got != tt.want {
			t.Errorf("Reachable(%q, %q) = %q, want %q", tt.addr, tt.from, got, tt.want)
		}
	}
}
