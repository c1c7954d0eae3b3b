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
// Open fails on a URL that it cannot read. It does not fail because Redis is
// away: calls do, until it is back.
func Open(ctx context.Context, rawURL string, o Options) (*Store, error) {
	c, err := dial(ctx, rawURL)
	if err != nil {
		return nil, err
	}
	s := New(c, o)
	s.owned = true
	return s, nil
}

func dial(ctx context.Context, rawURL string) (redis.UniversalClient, error) {
	u, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	base, kind, _ := strings.Cut(u.Scheme, "+")
	switch {
	case kind == "sentinel":
		return dialSentinel(u, base)
	case kind == "cluster" || kind == "" && u.Query().Has("addr"):
		u.Scheme = base
		opt, err := redis.ParseClusterURL(u.String())
		if err != nil {
			return nil, badURL(err)
		}
		opt.ContextTimeoutEnabled = true
		return redis.NewClusterClient(opt), nil
	case kind != "":
		return nil, badURL(fmt.Errorf("unknown scheme %q", u.Scheme))
	}
	opt, err := redis.ParseURL(u.String())
	if err != nil {
		return nil, badURL(err)
	}
	opt.ContextTimeoutEnabled = true
	c := redis.NewClient(opt)
	if u.Scheme != "unix" && isCluster(ctx, c) {
		_ = c.Close() // nothing is under way on it
		cluster, err := redis.ParseClusterURL((&url.URL{Scheme: u.Scheme, User: u.User, Host: u.Host, RawQuery: u.RawQuery}).String())
		if err != nil {
			return nil, badURL(err)
		}
		cluster.ContextTimeoutEnabled = true
		return redis.NewClusterClient(cluster), nil
	}
	return c, nil
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
	return redis.NewFailoverClient(opt), nil
}

func badURL(err error) error {
	return fmt.Errorf("%w: the Redis URL: %w", progress.ErrInvalid, err)
}

// isCluster asks the server, within a short bound; one that does not answer
// is taken for a single one.
func isCluster(ctx context.Context, c *redis.Client) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	info, err := c.Info(ctx, "cluster").Result()
	return err == nil && infoField(info, "cluster_enabled") == "1"
}
