package apiservice

import (
	"context"
	"path"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/runcast/runcast/pkg/strategy"
	"github.com/runcast/runcast/subscriber/strategies"
)

// temporalCalls counts the calls to Temporal that strategies make, each
// attempt for itself, once it is answered.
type temporalCalls struct{ answered *prometheus.CounterVec }

func newTemporalCalls(registry prometheus.Registerer) *temporalCalls {
	c := &temporalCalls{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "runcast_strategy_temporal_calls_total",
		Help: "Calls to Temporal that were answered, by the strategy that made them, method and gRPC code; auto asks for types.",
	}, []string{"strategy", "method", "code"})}
	// One that makes none shows as 0, not as missing.
	for _, name := range append(strategy.Names(), strategies.Auto) {
		c.answered.WithLabelValues(name, "DescribeWorkflowExecution", "OK")
	}
	registry.MustRegister(c.answered)
	return c
}

// dialOption has the calls of a client counted. The SDK tries again outside of
// it.
func (c *temporalCalls) dialOption() grpc.DialOption {
	return grpc.WithChainUnaryInterceptor(c.intercept)
}

func (c *temporalCalls) intercept(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	name, ok := ctx.Value(callerKey{}).(string)
	if !ok || ctx.Err() != nil { // it does not leave the process
		return invoke(ctx, method, req, reply, conn, opts...)
	}
	err := invoke(ctx, method, req, reply, conn, opts...)
	c.answered.WithLabelValues(name, path.Base(method), status.Code(err).String()).Inc()
	return err
}

type callerKey struct{}

// calledBy returns a context whose calls to Temporal are a strategy's.
func calledBy(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, callerKey{}, name)
}
