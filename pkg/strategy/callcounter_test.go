package strategy_test

import (
	"context"
	"path"
	"slices"
	"sync"
	"time"

	"go.temporal.io/api/serviceerror"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// caller is the key under which the context of calls has their [viewer].
type caller struct{}

type refusedCall struct {
	viewer any
	method string
}

// callCounter counts the calls of a client by method.
type callCounter struct {
	mu    sync.Mutex
	calls map[string]int
	open  int
	// refused is how many the server had no room for, and again, of viewers and
	// methods for which the last one was so, when it came back.
	refused int
	again   map[refusedCall]time.Time
	// soonest is the least time from such a call to the viewer's next of the
	// method; 0: there was no next one.
	soonest time.Duration
	// fail, when not nil, is asked before each call.
	fail func(method string) error
	// hold has each call wait until it is given up.
	hold bool
}

func (c *callCounter) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	c.mu.Lock()
	if c.calls == nil {
		c.calls = map[string]int{}
	}
	c.calls[path.Base(method)]++
	this := refusedCall{ctx.Value(caller{}), method}
	if at, ok := c.again[this]; ok {
		delete(c.again, this)
		if since := time.Since(at); c.soonest == 0 || since < c.soonest {
			c.soonest = since
		}
	}
	c.open++
	fail, hold := c.fail, c.hold
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.open--
		c.mu.Unlock()
	}()
	if fail != nil {
		if err := fail(path.Base(method)); err != nil {
			return serviceerror.ToStatus(err).Err() // as it comes from a server
		}
	}
	if hold {
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	}
	err := invoke(ctx, method, req, reply, cc, opts...)
	if status.Code(err) == codes.ResourceExhausted {
		c.refuse(this)
	}
	return err
}

func (c *callCounter) refuse(call refusedCall) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.again == nil {
		c.again = map[refusedCall]time.Time{}
	}
	c.refused++
	c.again[call] = time.Now()
}

// refusals returns how many calls the server had no room for, and the least
// time until one was made again.
func (c *callCounter) refusals() (n int, soonest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refused, c.soonest
}

// total returns how many calls were made.
func (c *callCounter) total() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.calls {
		n += m
	}
	return n
}

func (c *callCounter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = map[string]int{}
}

func (c *callCounter) failWith(f func(method string) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = f
}

func (c *callCounter) holdAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hold = true
}

func (c *callCounter) count(method string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[method]
}

// methods returns the names of the methods that were called, in order.
func (c *callCounter) methods() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for m := range c.calls {
		names = append(names, m)
	}
	slices.Sort(names)
	return names
}

func (c *callCounter) opened() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}
