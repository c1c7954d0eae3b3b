package redisstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// slots is how many a cluster has.
const slots = 16384

const (
	// probeWithin bounds one question to one node.
	probeWithin = time.Second
	// probeGrace is how long the last nodes are waited for once most have
	// answered: one that hangs must not delay what the others know.
	probeGrace = 150 * time.Millisecond
)

// layout says which master has each slot. It never changes.
type layout struct {
	masters []string // addresses, sorted
	owner   [slots]int16
	// moving are the slots that some master is handing over, key by key: what
	// is published there may go to the new master, which takes no
	// subscription yet.
	moving map[int]bool
	ranges []redis.ClusterSlot
}

// of returns the address of a slot's master, or "" if it has none.
func (l *layout) of(slot int) string {
	if l == nil || l.owner[slot] == 0 {
		return ""
	}
	return l.masters[l.owner[slot]-1]
}

// sameOwners reports whether each slot has the same master in both.
func (l *layout) sameOwners(other *layout) bool {
	return l != nil && other != nil && l.owner == other.owner && slices.Equal(l.masters, other.masters)
}

// topology asks a cluster's masters who has which slot. The client's own
// table does not do: it asks one node, by chance, and waits for it even if it
// hangs; and it believes a master that has been replaced and does not know.
type topology struct {
	opts *redis.ClusterOptions

	asking sync.WaitGroup // goroutines of ask; each ends with its question

	mu      sync.Mutex
	closed  bool
	probes  map[string]*redis.Client // by address
	masters []string                 // as last seen
}

func newTopology(o *redis.ClusterOptions) *topology {
	return &topology{opts: o, probes: map[string]*redis.Client{}}
}

// close ends the connections, and waits for the questions under way to fail.
func (t *topology) close() {
	t.mu.Lock()
	t.closed = true
	for _, c := range t.probes {
		_ = c.Close()
	}
	clear(t.probes)
	t.mu.Unlock()
	t.asking.Wait()
}

// probe returns the client with which a node is asked.
func (t *topology) probe(addr string) (*redis.Client, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, redis.ErrClosed
	}
	c := t.probes[addr]
	if c == nil {
		o := nodeOptions(t.opts, addr)
		o.PoolSize, o.MinIdleConns, o.MaxRetries = 2, 0, -1
		c = newClient(t.opts, o)
		t.probes[addr] = c
	}
	return c, nil
}

// nodeOptions are those of a connection to one node that fails fast: another
// try, perhaps elsewhere, is better than a long wait.
func nodeOptions(o *redis.ClusterOptions, addr string) *redis.Options {
	return &redis.Options{
		Addr: addr, ClientName: o.ClientName, Dialer: o.Dialer, OnConnect: o.OnConnect,
		Protocol: o.Protocol, Username: o.Username, Password: o.Password,
		CredentialsProvider:          o.CredentialsProvider,
		CredentialsProviderContext:   o.CredentialsProviderContext,
		StreamingCredentialsProvider: o.StreamingCredentialsProvider,
		TLSConfig:                    o.TLSConfig,
		DisableIdentity:              o.DisableIdentity, IdentitySuffix: o.IdentitySuffix,
		ReadBufferSize: o.ReadBufferSize, WriteBufferSize: o.WriteBufferSize,
		MaintNotificationsConfig: noNotices(),
		DialTimeout:              probeWithin, DialerRetries: 1,
		ReadTimeout: probeWithin, WriteTimeout: probeWithin, ContextTimeoutEnabled: true,
	}
}

// noNotices keeps the client from moving a connection to another address by
// itself.
func noNotices() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

func newClient(cluster *redis.ClusterOptions, o *redis.Options) *redis.Client {
	if cluster.NewClient != nil {
		return cluster.NewClient(o)
	}
	return redis.NewClient(o)
}

// view is what one node says.
type view struct {
	ranges []redis.ClusterSlot
	// epochs are the masters' configuration epochs, by node ID: of two that
	// claim a slot the higher one is right. Empty if the node does not tell.
	epochs map[string]int64
	moving []int
}

// load asks all masters at once, two commands each, and puts together what
// they say. Where none of those last seen answers, it asks the addresses that
// the cluster was configured with.
func (t *topology) load(ctx context.Context) (*layout, error) {
	t.mu.Lock()
	known := t.masters
	t.mu.Unlock()
	var errs error
	for _, addrs := range [][]string{known, t.opts.Addrs} {
		if len(addrs) == 0 {
			continue
		}
		views, err := t.ask(ctx, addrs)
		if len(views) == 0 {
			errs = errors.Join(errs, err)
			continue
		}
		l := combine(views)
		t.mu.Lock()
		t.masters = l.masters
		for addr, c := range t.probes {
			if !slices.Contains(l.masters, addr) {
				_ = c.Close()
				delete(t.probes, addr)
			}
		}
		t.mu.Unlock()
		return l, nil
	}
	return nil, fmt.Errorf("no node of the cluster says who has which slot: %w", errs)
}

// ask returns the views of those that answer in time.
func (t *topology) ask(ctx context.Context, addrs []string) ([]view, error) {
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	type answer struct {
		view view
		err  error
	}
	answers := make(chan answer, len(addrs))
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil, redis.ErrClosed
	}
	for _, addr := range addrs {
		t.asking.Go(func() {
			v, err := t.askOne(ctx, addr)
			answers <- answer{v, err}
		})
	}
	t.mu.Unlock()
	var views []view
	var errs error
	var grace <-chan time.Time
	for range addrs {
		select {
		case a := <-answers:
			if a.err != nil {
				errs = errors.Join(errs, a.err)
			} else {
				views = append(views, a.view)
			}
		case <-grace:
			return views, errs
		case <-ctx.Done():
			return views, errors.Join(errs, ctx.Err())
		}
		if grace == nil && 2*len(views) > len(addrs) {
			grace = time.After(probeGrace)
		}
	}
	return views, errs
}

func (t *topology) askOne(ctx context.Context, addr string) (view, error) {
	c, err := t.probe(addr)
	if err != nil {
		return view{}, err
	}
	p := c.Pipeline()
	ranges, nodes := p.ClusterSlots(ctx), p.ClusterNodes(ctx)
	_, _ = p.Exec(ctx) // each has its own error
	if err := ranges.Err(); err != nil {
		return view{}, fmt.Errorf("%s: %w", addr, err)
	}
	v := view{ranges: ranges.Val()}
	// A user may lack the permission; the view then counts for less.
	v.epochs, v.moving = parseNodes(nodes.Val())
	for i := range v.ranges {
		for j := range v.ranges[i].Nodes {
			n := &v.ranges[i].Nodes[j]
			n.Addr = reachable(n.Addr, addr)
		}
	}
	return v, nil
}

// parseNodes reads CLUSTER NODES: the masters' epochs by node ID, and the
// slots that the node that answers is handing over. A line is
//
//	<id> <addr> <flags> <master> <ping> <pong> <epoch> <link> <slot>…
//
// where a slot may be [<slot>->-<id of the new master>].
func parseNodes(text string) (epochs map[string]int64, moving []int) {
	epochs = map[string]int64{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 8 || !strings.Contains(f[2], "master") {
			continue
		}
		epochs[f[0]], _ = strconv.ParseInt(f[6], 10, 64)
		for _, s := range f[8:] {
			s, ok := strings.CutPrefix(s, "[")
			number, _, found := strings.Cut(s, "->-")
			if n, err := strconv.Atoi(number); ok && found && err == nil && n >= 0 && n < slots {
				moving = append(moving, n)
			}
		}
	}
	return epochs, moving
}

// reachable returns where a node is reached that another one, at from, calls
// addr: it may know no host, or only loopback, for nodes beside itself, and
// port 0 where all ports are TLS.
func reachable(addr, from string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	fromHost, fromPort, err := net.SplitHostPort(from)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || host == "?" || ip != nil && ip.IsLoopback() && !isLoopback(fromHost) {
		host = fromHost
	}
	if port == "0" {
		port = fromPort
	}
	return net.JoinHostPort(host, port)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// combine gives each slot to the master whose claim has the highest epoch.
func combine(views []view) *layout {
	l := &layout{moving: map[int]bool{}}
	best := make([]int64, slots) // epoch + 1 of the claim, 0: none
	from := make([]*redis.ClusterSlot, slots)
	for _, v := range views {
		for _, n := range v.moving {
			l.moving[n] = true
		}
		for i := range v.ranges {
			r := &v.ranges[i]
			if len(r.Nodes) == 0 {
				continue
			}
			epoch := v.epochs[r.Nodes[0].ID] + 1
			for n := max(r.Start, 0); n <= min(r.End, slots-1); n++ {
				if epoch > best[n] {
					best[n], from[n] = epoch, r
				}
			}
		}
	}
	masters := map[string]bool{}
	for start := 0; start < slots; {
		end := start
		for end+1 < slots && from[end+1] == from[start] {
			end++
		}
		if r := from[start]; r != nil {
			masters[r.Nodes[0].Addr] = true
			l.ranges = append(l.ranges, redis.ClusterSlot{Start: start, End: end, Nodes: r.Nodes})
		}
		start = end + 1
	}
	l.masters = slices.Sorted(maps.Keys(masters))
	for _, r := range l.ranges {
		i, _ := slices.BinarySearch(l.masters, r.Nodes[0].Addr)
		for n := r.Start; n <= r.End; n++ {
			l.owner[n] = int16(i + 1)
		}
	}
	return l
}

// clusterSlots is load in the form that the client takes.
func (t *topology) clusterSlots(ctx context.Context) ([]redis.ClusterSlot, error) {
	l, err := t.load(ctx)
	if err != nil {
		return nil, err
	}
	return l.ranges, nil
}
