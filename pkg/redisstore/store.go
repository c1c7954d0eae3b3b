package redisstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/pkg/progress"
)

// The defaults of [Options].
const (
	DefaultTTLRunning   = 30 * 24 * time.Hour
	DefaultTTLClosed    = 24 * time.Hour
	DefaultMaxLen       = 1000
	DefaultMaxProducers = 1000
	DefaultPingEvery    = time.Second
)

// Options configures a [Store]. The zero value of each field is its default.
type Options struct {
	// Prefix stands in front of every key and channel, followed by a colon.
	// It sets environments and Temporal namespaces apart. Default: none.
	Prefix string
	// TTLRunning and TTLClosed are how long a workflow's keys live after its
	// last event, while its chain is open and once it is closed.
	TTLRunning, TTLClosed time.Duration
	// MaxLen is about how many events a stream holds; whole nodes of the
	// stream go at a time, so it holds some more. Negative: never trimmed.
	MaxLen int64
	// MaxProducers is how many producers one workflow may have at a time.
	MaxProducers int
	// PingEvery is how often a subscription's connection is checked; after
	// three such times without an answer it is taken for dead.
	PingEvery time.Duration
	// Logger takes what has no caller to be returned to. Default: discarded.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.TTLRunning <= 0 {
		o.TTLRunning = DefaultTTLRunning
	}
	if o.TTLClosed <= 0 {
		o.TTLClosed = DefaultTTLClosed
	}
	if o.MaxLen == 0 {
		o.MaxLen = DefaultMaxLen
	}
	if o.MaxProducers <= 0 {
		o.MaxProducers = DefaultMaxProducers
	}
	if o.PingEvery <= 0 {
		o.PingEvery = DefaultPingEvery
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Store reads and writes the progress of workflows. It is safe for use by
// many goroutines.
type Store struct {
	client   redis.UniversalClient
	single   *redis.Client        // client, unless it is a cluster's
	cluster  *redis.ClusterClient // nil unless client is one
	topology *topology            // nil unless cluster is set
	opts     Options
	keys     keyspace
	publish  string // PUBLISH or SPUBLISH
	index    *indexer
	stats    counters
	owned    bool             // whether Close closes client
	now      func() time.Time // for candidate epochs and index scores
}

// New returns a store on a client that the caller keeps and closes. Close the
// store first. The client is a [redis.Client], also one for Sentinel, or a
// [redis.ClusterClient].
func New(c redis.UniversalClient, o Options) *Store {
	var t *topology
	if cc, ok := c.(*redis.ClusterClient); ok {
		t = newTopology(cc.Options())
	}
	return newStore(c, t, o)
}

func newStore(c redis.UniversalClient, t *topology, o Options) *Store {
	s := &Store{client: c, topology: t, opts: o.withDefaults(), keys: newKeyspace(o.Prefix), publish: "PUBLISH", now: time.Now}
	s.single, _ = c.(*redis.Client)
	if cc, ok := c.(*redis.ClusterClient); ok {
		// On a cluster PUBLISH goes to every node; SPUBLISH stays in its slot.
		s.cluster, s.publish = cc, "SPUBLISH"
	}
	s.index = newIndexer(s)
	return s
}

// Client returns the client that the store uses, for who keeps other things in
// the same Redis. If [Open] made it, it is closed with the store.
func (s *Store) Client() redis.UniversalClient { return s.client }

// Close writes what is still to be written to the indexes, within a bound,
// and closes the connections if [Open] made them. Close subscriptions first.
func (s *Store) Close() error {
	s.index.stop()
	var err error
	if s.owned {
		err = s.client.Close()
	}
	if s.topology != nil {
		s.topology.close()
	}
	return err
}

// Ping reports whether Redis answers; on a cluster, every master.
func (s *Store) Ping(ctx context.Context) error {
	if s.cluster != nil {
		return s.classify("ping", s.cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
			return c.Ping(ctx).Err()
		}))
	}
	return s.classify("ping", s.client.Ping(ctx).Err())
}

// CheckServer reports a server that the contract does not work on: older than
// Redis 7 on a cluster (sharded pub/sub) or 6.2 elsewhere, one that may evict
// keys, or a cluster that [Open] has taken for a single server because it was
// away. A server that does not tell is let through with a warning.
func (s *Store) CheckServer(ctx context.Context) error {
	if s.cluster != nil {
		return s.cluster.ForEachMaster(ctx, s.checkServer)
	}
	if c, ok := s.client.(*redis.Client); ok {
		return s.checkServer(ctx, c)
	}
	return nil
}

func (s *Store) checkServer(ctx context.Context, c *redis.Client) error {
	// All of it: before Redis 7, INFO takes one section at most.
	info, err := c.Info(ctx).Result()
	if err != nil {
		if _, refused := err.(redis.Error); !refused {
			return s.classify("check the Redis server", err)
		}
		s.opts.Logger.WarnContext(ctx, "the Redis server does not answer INFO; its version and eviction policy are not checked", "error", err)
	}
	if s.cluster == nil && isCluster(ctx, c) {
		return errCluster
	}
	if v := infoField(info, "redis_version"); v != "" && !atLeast(v, s.cluster != nil) {
		return fmt.Errorf("the Redis server has version %s; needed is 6.2, or 7.0 on a cluster", v)
	}
	if p := infoField(info, "maxmemory_policy"); p != "" && p != "noeviction" {
		return fmt.Errorf("the Redis server may evict keys (maxmemory-policy is %s), which loses progress; set it to noeviction", p)
	}
	return nil
}

func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return v
		}
	}
	return ""
}

func atLeast(version string, cluster bool) bool {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	if err1 != nil || err2 != nil {
		return true // a fork with other versions
	}
	if cluster {
		return a >= 7
	}
	return a > 6 || a == 6 && b >= 2
}

// errCluster: a client for one server talks to a node of a cluster.
var errCluster = errors.New("the Redis server is part of a cluster, which could not be seen when the program started; start it again, or name the cluster as redis+cluster:// in the URL")

// classify wraps an error of the client. What may pass when the call is made
// again wraps [progress.ErrUnavailable] too.
func (s *Store) classify(what string, err error) error {
	if err == nil {
		return nil
	}
	if s.cluster == nil && redis.HasErrorPrefix(err, "MOVED") {
		return fmt.Errorf("%s: %w: %w", what, errCluster, err)
	}
	if lasting(err) {
		return fmt.Errorf("%s: %w", what, err)
	}
	if answer := redis.Error(nil); s.cluster != nil && !errors.As(err, &answer) {
		// The client looks for a master's successor only when a node tells it
		// to, and one that is away tells nothing.
		s.cluster.ReloadState(context.Background())
	}
	return fmt.Errorf("%s: %w: %w", what, progress.ErrUnavailable, err)
}

// passing are the parts by which answers are known that a script of an older
// server wraps as "ERR Error running script", and that pass nevertheless.
var passing = []string{"OOM ", "READONLY ", "NOREPLICAS ", "MISCONF ", "MASTERDOWN ", "LOADING ", "ERR max number of clients"}

// lasting reports an answer that the same call will get again: a wrong type
// at the key, no permission, a command that the server does not know. All
// else (no answer, loading, out of memory, failing over) passes.
func lasting(err error) bool {
	var answer redis.Error
	if !errors.As(err, &answer) {
		return false
	}
	text := answer.Error()
	for _, prefix := range []string{"WRONGTYPE", "NOPERM", "NOAUTH", "WRONGPASS", "ERR ", "NOSCRIPT"} {
		if strings.HasPrefix(text, prefix) {
			return !slices.ContainsFunc(passing, func(part string) bool { return strings.Contains(text, part) })
		}
	}
	return false
}

// Stats are counts since the store was made, one for every bound and every
// loss.
type Stats struct {
	// Appends and Events were written; Duplicates had been before.
	Appends, Events, Duplicates int64
	// Refused counts refused appends by reason.
	Superseded, Closed, Reopened, UnknownRun, ProducersFull int64
	// Unavailable counts appends that failed and may succeed when they are
	// repeated: without an answer, or with one that passes, such as OOM.
	Unavailable int64
	// Lost counts the events that producers said they could not write.
	Lost int64
	// PublishFailed counts events that were written but not published.
	PublishFailed int64
	// IndexWrites and IndexErrors count updates of tags; IndexDropped those
	// left out because too many waited; the reconciler repairs both.
	// IndexForgotten counts workflows whose lists are written more often than
	// needed, because more were active than are remembered.
	IndexWrites, IndexErrors, IndexDropped, IndexForgotten int64
	// Messages were received by subscriptions; Unwanted ones arrived for a
	// topic just removed. Reconnects counts connections that were lost,
	// Rerouted topics that looked for their node anew, Resyncs topics told to
	// read, PongsMissed connections taken for dead, SubscribeRefused commands
	// that a node answered with an error other than that the slot has moved.
	Messages, Unwanted, Reconnects, Rerouted, Resyncs, PongsMissed, SubscribeRefused int64
}

type counters struct {
	appends, events, duplicates                             atomic.Int64
	superseded, closed, reopened, unknownRun, producersFull atomic.Int64
	unavailable, lost, publishFailed                        atomic.Int64
	indexWrites, indexErrors, indexDropped, indexForgotten  atomic.Int64
	messages, unwanted, reconnects, rerouted, resyncs       atomic.Int64
	pongsMissed, subscribeRefused                           atomic.Int64
}

// Stats returns the counts so far.
func (s *Store) Stats() Stats {
	c := &s.stats
	return Stats{
		Appends: c.appends.Load(), Events: c.events.Load(), Duplicates: c.duplicates.Load(),
		Superseded: c.superseded.Load(), Closed: c.closed.Load(), Reopened: c.reopened.Load(),
		UnknownRun: c.unknownRun.Load(), ProducersFull: c.producersFull.Load(),
		Unavailable: c.unavailable.Load(), Lost: c.lost.Load(), PublishFailed: c.publishFailed.Load(),
		IndexWrites: c.indexWrites.Load(), IndexErrors: c.indexErrors.Load(), IndexDropped: c.indexDropped.Load(),
		IndexForgotten: c.indexForgotten.Load(),
		Messages:       c.messages.Load(), Unwanted: c.unwanted.Load(), Reconnects: c.reconnects.Load(),
		Rerouted: c.rerouted.Load(), Resyncs: c.resyncs.Load(), PongsMissed: c.pongsMissed.Load(),
		SubscribeRefused: c.subscribeRefused.Load(),
	}
}
