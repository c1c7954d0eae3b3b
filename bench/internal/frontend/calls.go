// Package frontend counts calls to Temporal's frontend: where they are made,
// by an interceptor of gRPC, and where they arrive, by the server's own
// metrics.
package frontend

import (
	"context"
	"maps"
	"path"
	"sync"

	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Calls are numbers of calls by the method's name, without the service's.
type Calls map[string]int64

// Total returns the sum over all methods.
func (c Calls) Total() (n int64) {
	for _, calls := range c {
		n += calls
	}
	return n
}

// Sub returns what was called since an earlier reading.
func (c Calls) Sub(since Calls) Calls {
	d := make(Calls)
	for method, n := range c {
		if n -= since[method]; n != 0 {
			d[method] = n
		}
	}
	return d
}

// Add adds the calls of another client.
func (c Calls) Add(other Calls) {
	for method, n := range other {
		c[method] += n
	}
}

// Counts is what a [Counter] has counted.
type Counts struct {
	// Made were begun, each attempt of a retried call for itself.
	Made Calls `json:"made"`
	// Refused are those of them that the server had no room for.
	Refused Calls `json:"refused,omitempty"`
	// Done were answered without an error.
	Done Calls `json:"done,omitempty"`
	// Free are those of them that are no billable action though others of the
	// method are: queries of what a workflow takes.
	Free Calls `json:"free,omitempty"`
}

// Sub returns what was counted since an earlier reading.
func (c Counts) Sub(since Counts) Counts {
	return Counts{Made: c.Made.Sub(since.Made), Refused: c.Refused.Sub(since.Refused), Done: c.Done.Sub(since.Done), Free: c.Free.Sub(since.Free)}
}

// Counter counts the calls of a client. The zero value is ready.
type Counter struct {
	mu     sync.Mutex
	counts Counts
}

// DialOption has a client's calls counted. The SDK retries outside of it, so
// that it sees each attempt, as the server does.
func (c *Counter) DialOption() grpc.DialOption { return grpc.WithChainUnaryInterceptor(c.intercept) }

func (c *Counter) intercept(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if ctx.Err() != nil {
		// It does not leave the process.
		return invoke(ctx, method, req, reply, conn, opts...)
	}
	name := path.Base(method)
	c.count(name, func(c *Counts) *Calls { return &c.Made })
	err := invoke(ctx, method, req, reply, conn, opts...)
	switch {
	case err == nil:
		c.count(name, func(c *Counts) *Calls { return &c.Done })
		if q, ok := req.(*workflowservice.QueryWorkflowRequest); ok && q.GetQuery().GetQueryType() == "__temporal_workflow_metadata" {
			c.count(name, func(c *Counts) *Calls { return &c.Free })
		}
	case status.Code(err) == codes.ResourceExhausted:
		c.count(name, func(c *Counts) *Calls { return &c.Refused })
	}
	return err
}

func (c *Counter) count(name string, which func(*Counts) *Calls) {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := which(&c.counts)
	if *calls == nil {
		*calls = make(Calls)
	}
	(*calls)[name]++
}

// Read returns what was counted so far.
func (c *Counter) Read() Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Counts{Made: maps.Clone(c.counts.Made), Refused: maps.Clone(c.counts.Refused), Done: maps.Clone(c.counts.Done), Free: maps.Clone(c.counts.Free)}
}
