package redisstore

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/progress"
)

// Open returns a store on the Redis that url (REDIS_URL) names:
//
//	redis://user:password@host:6379/0            one server
//	rediss://…                                   the same over TLS
//	unix:///path/to/socket                       the same over a socket
//	redis://host:6379?addr=host2:6379            a cluster; redis+cluster:// where one address is all there is
//	redis+sentinel://host:26379,host2:26379/NAME a primary that Sentinel knows as NAME
//
// rediss+cluster and rediss+sentinel use TLS. Further options of go-redis
// may follow as query parameters. A server that says that it is part of a
// cluster is treated as one whatever the scheme.
//
// Open fails on a URL that it cannot read, and on options that read from
// replicas. It does not fail because Redis is away: calls do, until it is
// back. A cluster that is away and that the URL does not name as one is taken
// for a single server; [Store.CheckServer] then says so.
func Open(ctx context.Context, rawURL string, o Options) (*Store, error) {
	c, t, err := dial(ctx, rawURL)
	if err != nil {
		return nil, err
	}
	s := newStore(c, t, o)
	s.owned = true
	return s, nil
}

// dial also returns the topology of a cluster, which its client uses.
func dial(ctx context.Context, rawURL string) (redis.UniversalClient, *topology, error) {
	u, err := parseURL(rawURL)
	if err != nil {
		return nil, nil, err
	}
	if err := refuseReplicas(u); err != nil {
		return nil, nil, err
	}
	base, kind, _ := strings.Cut(u.Scheme, "+")
	switch {
	case kind == "sentinel":
		c, err := dialSentinel(u, base)
		return c, nil, err
	case kind == "cluster" || kind == "" && u.Query().Has("addr"):
		u.Scheme = base
		return dialCluster(u)
	case kind != "":
		return nil, nil, badURL(fmt.Errorf("unknown scheme %q", u.Scheme))
	}
	opt, err := redis.ParseURL(u.String())
	if err != nil {
		return nil, nil, badURL(err)
	}
	opt.ContextTimeoutEnabled = true
	c := redis.NewClient(opt)
	if u.Scheme != "unix" && isCluster(ctx, c) {
		_ = c.Close() // nothing is under way on it
		return dialCluster(&url.URL{Scheme: u.Scheme, User: u.User, Host: u.Host, RawQuery: u.RawQuery})
	}
	return c, nil, nil
}

func dialCluster(u *url.URL) (redis.UniversalClient, *topology, error) {
	opt, err := redis.ParseClusterURL(u.String())
	if err != nil {
		return nil, nil, badURL(err)
	}
	opt.ContextTimeoutEnabled = true
	failFast(&opt.DialTimeout, &opt.ReadTimeout, &opt.DialerRetries)
	t := newTopology(opt)
	opt.ClusterSlots = t.clusterSlots // reads are not sent to replicas, which would need READONLY
	return redis.NewClusterClient(opt), t, nil
}

// failFast sets what the URL leaves open. Where another server may take over,
// waiting long for one that hangs is worse than asking again.
func failFast(dial, read *time.Duration, dials *int) {
	if *dial == 0 {
		*dial = 2 * time.Second
	}
	if *read == 0 {
		*read = 2 * time.Second
	}
	if *dials == 0 {
		*dials = 1
	}
}

// parseURL hides the password that url.Parse would put into its error. A
// list of hosts is no valid URL host, so the rest of it goes to "addr".
func parseURL(rawURL string) (*url.URL, error) {
	scheme, rest, ok := strings.Cut(rawURL, "://")
	if !ok {
		return nil, badURL(fmt.Errorf("it has no scheme, such as redis://"))
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	authority := rest[:end]
	hosts := authority[strings.LastIndex(authority, "@")+1:]
	first, more, _ := strings.Cut(hosts, ",")
	u, err := url.Parse(scheme + "://" + strings.TrimSuffix(authority, hosts) + first + rest[end:])
	if err != nil {
		return nil, badURL(fmt.Errorf("it is not a URL"))
	}
	if more != "" {
		q := u.Query()
		for addr := range strings.SplitSeq(more, ",") {
			q.Add("addr", addr)
		}
		u.RawQuery = q.Encode()
	}
	return u, nil
}

func dialSentinel(u *url.URL, scheme string) (redis.UniversalClient, error) {
	q := u.Query()
	name, db, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
	if name != "" {
		q.Set("master_name", name)
	}
	if q.Get("master_name") == "" {
		return nil, badURL(fmt.Errorf("redis+sentinel:// needs the primary's name, as in redis+sentinel://host:26379/mymaster"))
	}
	u.Scheme, u.Path, u.RawQuery = scheme, "/"+db, q.Encode()
	opt, err := redis.ParseFailoverURL(u.String())
	if err != nil {
		return nil, badURL(err)
	}
	opt.ContextTimeoutEnabled = true
	failFast(&opt.DialTimeout, &opt.ReadTimeout, &opt.DialerRetries)
	return redis.NewFailoverClient(opt), nil
}

func badURL(err error) error {
	return fmt.Errorf("%w: the Redis URL: %w", progress.ErrInvalid, err)
}

// isCluster asks the server, within a short bound; one that does not answer
// is taken for a single one. A user who may only read may not be allowed to
// ask for INFO; on a cluster such a user needs CLUSTER in any case.
func isCluster(ctx context.Context, c *redis.Client) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if info, err := c.Info(ctx, "cluster").Result(); err == nil {
		return infoField(info, "cluster_enabled") == "1"
	}
	return c.ClusterInfo(ctx).Err() == nil
}

// fromReplicas are options of the client that read from replicas, which may
// be behind: a head that is read there says nothing of what was written.
var fromReplicas = []string{"read_only", "route_by_latency", "route_randomly", "replica_only", "use_disconnected_replicas"}

func refuseReplicas(u *url.URL) error {
	q := u.Query()
	for _, name := range fromReplicas {
		// As the client reads it: anything but these is on, or an error.
		if v := q.Get(name); q.Has(name) && v != "false" && v != "0" {
			return badURL(fmt.Errorf("%s reads from replicas, which may be behind; leave it out", name))
		}
	}
	return nil
}
