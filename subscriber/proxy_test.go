package subscriber_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// proxy is a round-robin proxy of TCP connections, as stands before nodes.
type proxy struct {
	listener net.Listener
	targets  []string
	wait     sync.WaitGroup
	// gate is held by who lets no answer through.
	gate sync.RWMutex

	mu    sync.Mutex
	next  int
	conns map[net.Conn]struct{}
	// served says, by a client's address, which target its connection went to.
	served map[string]int
}

func newProxy(t testing.TB, targets ...string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, targets: targets, conns: make(map[net.Conn]struct{}), served: make(map[string]int)}
	p.wait.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.wait.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.wait.Wait()
	})
	return p
}

// keep closes the connection with the proxy.
func (p *proxy) keep(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = struct{}{}
}

func (p *proxy) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	_ = c.Close()
}

// dial connects to the target whose turn it is, or else to the one behind it.
func (p *proxy) dial(client string) (net.Conn, error) {
	var err error
	for range p.targets {
		p.mu.Lock()
		i := p.next % len(p.targets)
		p.next++
		p.mu.Unlock()
		var c net.Conn
		if c, err = net.Dial("tcp", p.targets[i]); err == nil {
			p.mu.Lock()
			p.served[client] = i
			p.mu.Unlock()
			return c, nil
		}
	}
	return nil, err
}

// target returns the target that served a client's address.
func (p *proxy) target(client string) (i int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, ok = p.served[client]
	return i, ok
}

func (p *proxy) serve(client net.Conn) {
	p.keep(client)
	defer p.drop(client)
	server, err := p.dial(client.RemoteAddr().String())
	if err != nil {
		return
	}
	p.keep(server)
	defer p.drop(server)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(server, client) // either end may go
		_ = server.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(gated{&p.gate, client}, server)
	_ = client.Close() // ends the other direction
	<-done
}

// gated writes while the gate is open.
type gated struct {
	gate *sync.RWMutex
	to   io.Writer
}

func (g gated) Write(p []byte) (int, error) {
	g.gate.RLock()
	defer g.gate.RUnlock()
	return g.to.Write(p)
}

// traveller is a client that knows which connections it made.
type traveller struct {
	*http.Client
	mu     sync.Mutex
	locals []string
}

func newTraveller(t testing.TB) *traveller {
	v := &traveller{}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, addr)
		if err == nil {
			v.mu.Lock()
			v.locals = append(v.locals, c.LocalAddr().String())
			v.mu.Unlock()
		}
		return c, err
	}}
	v.Client = &http.Client{Transport: transport}
	t.Cleanup(transport.CloseIdleConnections)
	return v
}

// takeTurns drains and kills the nodes in turn, and starts each anew at its
// address. It returns how many viewers had resumed on those that are gone.
func (c *cluster) takeTurns(stop <-chan struct{}) (resumes int64) {
	for n := 0; ; n++ {
		i := n % len(c.nodes)
		old := c.nodes[i]
		for wait := true; wait; wait = old.Hub().Conns("") == 0 {
			select {
			case <-stop:
				return resumes
			case <-time.After(50 * time.Millisecond):
			}
		}
		grace := 5 * time.Second
		if n/2%2 == 1 {
			grace = 0 // connections are cut where they are
		}
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		if err := old.Stop(ctx); err != nil && grace > 0 {
			c.t.Errorf("drain: %v", err)
		}
		cancel()
		resumes += old.Hub().Metrics().Resumes.Load()
		c.nodes[i] = c.node(c.addrs[i])
	}
}

// Viewers that know a proxy's address alone go on without a loss while the
// nodes behind it are drained and killed in turn.
func TestBehindAProxy(t *testing.T) {
	const viewers = 20
	redis := testenv.NewRedis(t, testenv.RedisOptions{})
	store, err := redisstore.Open(t.Context(), redis.URL(), redisstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	nodes := &cluster{t: t, redis: redis, store: store, ring: 2048}
	nodes.start(2)
	t.Cleanup(nodes.stop)
	front := newProxy(t, nodes.addrs...)
	address := "http://" + front.listener.Addr().String()

	w := &truth{events: make(map[string]progress.Event)}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var writer, clients sync.WaitGroup
	restarted := make(chan int64, 1) // how many resumes the nodes saw that are gone
	stop := make(chan struct{})
	go func() { restarted <- nodes.takeTurns(stop) }()
	writer.Go(func() {
		w.write(ctx, t, store, 1, 400, func() { close(stop) })
	})
	seen := make([][]observed, viewers)
	travellers := make([]*traveller, viewers)
	for i := range viewers {
		travellers[i] = newTraveller(t)
		clients.Go(func() {
			v := &viewer{
				id:   "w",
				pick: func(int) string { return address }, via: travellers[i].Client, truth: w,
				ws: i%2 == 1, rand: rand.New(rand.NewPCG(2, uint64(i))),
			}
			v.run(ctx)
			seen[i] = v.conns
		})
	}
	writer.Wait()
	clients.Wait()
	resumes := <-restarted
	if ctx.Err() != nil {
		t.Error("it took too long")
	}
	both, conns := 0, 0
	for i, list := range seen {
		validate(t, fmt.Sprintf("viewer %d", i), list, w, false)
		if last := lastPosition(list); last != w.last.String() {
			t.Errorf("viewer %d: stands at %s, the stream at %s", i, last, w.last)
		}
		by := map[int]bool{}
		for _, local := range travellers[i].locals {
			if target, ok := front.target(local); ok {
				by[target] = true
			}
		}
		if len(by) == 2 {
			both++
		}
		conns += len(list)
	}
	for _, s := range nodes.nodes {
		resumes += s.Hub().Metrics().Resumes.Load()
	}
	t.Logf("%d events, %d connections, %d resumes", len(w.events), conns, resumes)
	if both != viewers {
		t.Errorf("%d of %d viewers were served by both nodes", both, viewers)
	}
	if resumes < viewers {
		t.Errorf("%d resumes of %d viewers", resumes, viewers)
	}
}
