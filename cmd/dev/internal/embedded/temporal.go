// Package embedded runs the servers that Runcast needs inside this process,
// for development and tests: nothing in them outlives it.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/membership/static"
	"go.temporal.io/server/common/metrics"
	sqliteplugin "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/common/testing/freeport"
	sqliteschema "go.temporal.io/server/schema/sqlite"
	"go.temporal.io/server/temporal"

	"github.com/runcast/runcast/cmd/dev/internal/dynamic"
	"github.com/runcast/runcast/cmd/dev/internal/ports"
)

// Namespace is the only one that the embedded server has, beside its own.
const Namespace = "default"

// Temporal is a Temporal server in this process. Its database is in
// memory and ends with it.
type Temporal struct {
	server temporal.Server
	// Addr is where its frontend listens: host and port.
	Addr string
}

// A TemporalOption changes how the server is configured.
type TemporalOption func(*temporalOptions)

type temporalOptions struct {
	metricsAddr string
	fineTimers  bool
	dynamic     dynamic.Values
}

// WithMetrics has the server tell its own metrics, for Prometheus, at
// http://ADDR/metrics. Empty: nowhere, as without the option.
func WithMetrics(addr string) TemporalOption {
	return func(o *temporalOptions) { o.metricsAddr = addr }
}

// WithFineTimers has sleeps of some milliseconds take as long. By default the
// server reads timers a second ahead, for the sake of clocks that differ, and
// a shorter sleep takes up to that second: its timer comes behind what has
// been read. It also reads them 20 times a second at most.
func WithFineTimers(fine bool) TemporalOption {
	return func(o *temporalOptions) { o.fineTimers = fine }
}

// WithDynamicConfig sets values of the server's dynamic configuration. They go
// before the ones of this package.
func WithDynamicConfig(v dynamic.Values) TemporalOption {
	return func(o *temporalOptions) { o.dynamic = v }
}

// StartTemporal returns once the frontend takes calls and the namespace
// exists. A port of 0 in addr takes a free one.
func StartTemporal(ctx context.Context, addr string, logger *slog.Logger, opts ...TemporalOption) (*Temporal, error) {
	host, port, err := ports.Split(addr)
	if err != nil {
		return nil, fmt.Errorf("--temporal-addr: %w", err)
	}
	if port == 0 {
		port = freeport.MustGetFreePort()
	} else if err := ports.CheckFree("--temporal-addr", addr); err != nil {
		return nil, err
	}
	conf, err := temporalConfig(host, port)
	if err != nil {
		return nil, err
	}
	var o temporalOptions
	for _, opt := range opts {
		opt(&o)
	}
	if o.metricsAddr != "" {
		conf.Global.Metrics = &metrics.Config{Prometheus: &metrics.PrometheusConfig{
			Framework: metrics.FrameworkOpentelemetry, ListenAddress: o.metricsAddr,
		}}
	}
	s := &Temporal{Addr: net.JoinHostPort(host, strconv.Itoa(port))}
	if s.server, err = newTemporalServer(conf, o, logger); err != nil {
		return nil, fmt.Errorf("configure the Temporal server: %w", err)
	}
	// Start gives up by itself after a time that it takes from its config.
	started := make(chan error, 1)
	go func() { started <- s.server.Start() }()
	select {
	case err = <-started:
	case <-ctx.Done():
		err = errors.Join(<-started, ctx.Err())
	}
	if err == nil {
		err = awaitTemporal(ctx, s.Addr)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the Temporal server: %w", err), s.server.Stop())
	}
	return s, nil
}

// Stop ends the server, or gives up when ctx is done: a server that does not
// end is left to the end of the process.
func (s *Temporal) Stop(ctx context.Context) error {
	stopped := make(chan error, 1)
	go func() { stopped <- s.server.Stop() }()
	select {
	case err := <-stopped:
		return err
	case <-ctx.Done():
		return fmt.Errorf("stop the Temporal server: %w", ctx.Err())
	}
}

func newTemporalServer(conf *config.Config, o temporalOptions, logger *slog.Logger) (temporal.Server, error) {
	quiet := serverLogger{logger}
	authorizer, err := authorization.GetAuthorizerFromConfig(&conf.Global.Authorization)
	if err != nil {
		return nil, err
	}
	claims, err := authorization.GetClaimMapperFromConfig(&conf.Global.Authorization, quiet)
	if err != nil {
		return nil, err
	}
	hosts := map[primitives.ServiceName]static.Hosts{}
	for name, service := range conf.Services {
		hosts[primitives.ServiceName(name)] = static.SingleLocalHost(
			net.JoinHostPort(service.RPC.BindOnIP, strconv.Itoa(service.RPC.GRPCPort)))
	}
	settings := dynamicconfig.StaticClient{
		dynamicconfig.HistoryCacheHostLevelMaxSize.Key():                 8096,
		dynamicconfig.FrontendMaxNamespaceVisibilityRPSPerInstance.Key(): 100,
		// Search attributes and namespaces made by a test are seen at once.
		dynamicconfig.ForceSearchAttributesCacheRefreshOnRead.Key(): true,
		// One task queue partition: no task waits in a partition that the
		// only worker does not happen to poll.
		dynamicconfig.MatchingNumTaskqueueReadPartitions.Key():  1,
		dynamicconfig.MatchingNumTaskqueueWritePartitions.Key(): 1,
	}
	if o.fineTimers {
		settings[dynamicconfig.TimerProcessorMaxTimeShift.Key()] = 5 * time.Millisecond
		settings[dynamicconfig.TimerProcessorMaxPollRPS.Key()] = 1000
	}
	values, err := o.dynamic.Load()
	if err != nil {
		return nil, err
	}
	for key, value := range values {
		settings[key] = value
	}
	return temporal.NewServer(
		temporal.WithConfig(conf),
		temporal.ForServices(temporal.DefaultServices),
		// One process needs no gossip to find itself, and starts sooner.
		temporal.WithStaticHosts(hosts),
		temporal.WithLogger(quiet),
		temporal.WithAuthorizer(authorizer),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return claims }),
		temporal.WithDynamicConfigClient(settings),
	)
}

func temporalConfig(host string, port int) (*config.Config, error) {
	const store, clusterName = "sqlite", "active"
	sql := &config.SQL{
		PluginName: sqliteplugin.PluginName,
		// A name of its own: servers in one process share what shares a name.
		DatabaseName:      "runcast-" + strconv.FormatUint(rand.Uint64(), 36),
		ConnectAttributes: map[string]string{"mode": "memory", "cache": "shared"},
	}
	ns, err := sqliteschema.NewNamespaceConfig(clusterName, Namespace, false, nil)
	if err != nil {
		return nil, fmt.Errorf("configure namespace %s: %w", Namespace, err)
	}
	if err := sqliteschema.CreateNamespaces(sql, ns); err != nil {
		return nil, fmt.Errorf("create namespace %s: %w", Namespace, err)
	}
	service := func(port int) config.Service {
		return config.Service{RPC: config.RPC{GRPCPort: port, BindOnIP: host}}
	}
	frontend := net.JoinHostPort(host, strconv.Itoa(port))
	conf := &config.Config{
		Services: map[string]config.Service{
			string(primitives.FrontendService): service(port),
			string(primitives.HistoryService):  service(freeport.MustGetFreePort()),
			string(primitives.MatchingService): service(freeport.MustGetFreePort()),
			string(primitives.WorkerService):   service(freeport.MustGetFreePort()),
		},
		Persistence: config.Persistence{
			DefaultStore:     store,
			VisibilityStore:  store,
			NumHistoryShards: 1,
			DataStores:       map[string]config.DataStore{store: {SQL: sql}},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10,
			MasterClusterName:        clusterName,
			CurrentClusterName:       clusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{
				clusterName: {
					Enabled:                true,
					InitialFailoverVersion: 1,
					RPCAddress:             frontend,
					ClusterID:              uuid.NewString(),
				},
			},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		PublicClient:        config.PublicClient{HostPort: frontend},
	}
	conf.Global.Membership.MaxJoinDuration = 10 * time.Second
	conf.Global.Membership.BroadcastAddress = host
	conf.Archival.History.State = "disabled"
	conf.Archival.Visibility.State = "disabled"
	conf.NamespaceDefaults.Archival.History.State = "disabled"
	conf.NamespaceDefaults.Archival.Visibility.State = "disabled"
	return conf, nil
}
