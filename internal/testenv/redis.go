// Package testenv starts the servers that tests run against: real ones, on
// free loopback ports, which end with the test binary.
package testenv

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// startWithin is how long a server may take to answer on a busy machine.
const startWithin = 30 * time.Second

// RedisServer is a running redis-server.
type RedisServer struct {
	Addr string // host:port
	// Dir is where it keeps its files and its log (redis.log).
	Dir  string
	pid  int
	stop func()
}

// URL returns the server's address as REDIS_URL takes it.
func (s *RedisServer) URL() string { return "redis://" + s.Addr }

// Stop ends the server at once, as a crash would.
func (s *RedisServer) Stop() { s.stop() }

// Pause makes the server hang: its connections stay open, and nothing on
// them is answered. The returned function, which the end of the test calls
// too, lets it go on.
func (s *RedisServer) Pause(t testing.TB) (resume func()) {
	t.Helper()
	if err := syscall.Kill(s.pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	resume = sync.OnceFunc(func() { _ = syscall.Kill(s.pid, syscall.SIGCONT) })
	t.Cleanup(resume)
	return resume
}

// RedisOptions configures a server of a test's own.
type RedisOptions struct {
	// Port is 0 for a free one.
	Port int
	// MaxMemory is as in redis.conf, such as "4mb"; empty: unbounded.
	MaxMemory string
	// Sentinel makes it a Sentinel that watches "name host port quorum".
	Sentinel string
	// Args are further command-line arguments.
	Args []string
}

var shared struct {
	sync.Mutex
	redis   *RedisServer
	cluster *RedisCluster
}

// Redis returns a server that all tests of the binary share. Set keys apart
// with [Prefix].
func Redis(t testing.TB) *RedisServer {
	t.Helper()
	NeedRedis(t)
	shared.Lock()
	defer shared.Unlock()
	if shared.redis == nil {
		s, err := startRedis(RedisOptions{})
		if err != nil {
			t.Fatal(err)
		}
		shared.redis = s
	}
	return shared.redis
}

// NewRedis starts a server of the test's own and ends it with the test.
func NewRedis(t testing.TB, o RedisOptions) *RedisServer {
	t.Helper()
	NeedRedis(t)
	s, err := startRedis(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// Mini starts an embedded server of the test's own, with a running clock for
// expiries.
func Mini(t testing.TB) *miniredis.Miniredis {
	t.Helper()
	m := miniredis.RunT(t)
	m.ClockTTL(true)
	return m
}

// Prefix returns a key prefix that no other test uses.
func Prefix(t testing.TB) string {
	return strings.NewReplacer("/", ".", "#", ".").Replace(t.Name()) + "." + strconv.FormatInt(time.Now().UnixNano(), 36)
}

// NeedRedis fails the test where redis-server is not installed. Only who has
// set RUNCAST_TEST_SKIP_SERVERS, and never CI, gets a skip instead.
func NeedRedis(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err == nil {
		return
	}
	if os.Getenv("RUNCAST_TEST_SKIP_SERVERS") != "" && os.Getenv("CI") != "true" {
		t.Skip("redis-server is not installed, and RUNCAST_TEST_SKIP_SERVERS is set")
	}
	t.Fatal("redis-server is not installed; `make test` installs it, RUNCAST_TEST_SKIP_SERVERS=1 skips this test")
}

// startRedis tries again when another process takes the port first.
func startRedis(o RedisOptions) (*RedisServer, error) {
	var last error
	for range 5 {
		s, err := tryRedis(o)
		if err == nil {
			return s, nil
		}
		last = err
		if o.Port != 0 {
			break
		}
	}
	return nil, last
}

// supervise ends the server when the test binary does, however it ends: the
// shell reads until the pipe that only the binary holds is closed.
const supervise = `dir=$1; shift
redis-server "$dir/redis.conf" "$@" >"$dir/redis.log" 2>&1 </dev/null &
pid=$!
read -r _
kill -9 $pid 2>/dev/null
rm -rf "$dir"`

func tryRedis(o RedisOptions) (*RedisServer, error) {
	port := o.Port
	if port == 0 {
		var err error
		if port, err = FreePort(); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp("", "runcast-redis-")
	if err != nil {
		return nil, err
	}
	conf := ""
	args := []string{
		"-c", supervise, "sh", dir,
		"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no",
	}
	if o.MaxMemory != "" {
		args = append(args, "--maxmemory", o.MaxMemory, "--maxmemory-policy", "noeviction")
	}
	if o.Sentinel != "" {
		args = append(args, "--sentinel")
		conf = "sentinel monitor " + o.Sentinel + "\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "redis.conf"), []byte(conf), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command("/bin/sh", append(args, o.Args...)...)
	ours, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdin = ours
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ours.Close()
	s := &RedisServer{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Dir: dir}
	s.stop = sync.OnceFunc(func() {
		theirs.Close()
		_ = cmd.Wait() // its exit code is that of the clean-up
	})
	c := redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: -1})
	defer c.Close()
	err = eventually(func(ctx context.Context) error {
		info, err := c.Info(ctx, "server").Result()
		if err == nil && !strings.Contains(info, "tcp_port:"+strconv.Itoa(port)) {
			err = fmt.Errorf("another server answers on port %d", port)
		}
		if err == nil && !s.isOurs(info) {
			err = fmt.Errorf("another process's server answers on port %d", port)
		}
		return err
	})
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "redis.log"))
		s.stop()
		return nil, fmt.Errorf("redis-server on port %d: %w\n%s", port, err, log)
	}
	return s, nil
}

// isOurs reports whether the server that answered wrote this server's log,
// and notes its process.
func (s *RedisServer) isOurs(info string) bool {
	log, err := os.ReadFile(filepath.Join(s.Dir, "redis.log"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(info) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "process_id:"); ok {
			s.pid, err = strconv.Atoi(text)
			return err == nil && strings.Contains(string(log), text)
		}
	}
	return false
}

// FreePort returns a loopback port that was free a moment ago, each once.
func FreePort() (int, error) {
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		_ = l.Close() // another is to listen there
		if _, given := givenPorts.LoadOrStore(port, true); !given {
			return port, nil
		}
	}
}

// givenPorts are those that FreePort has returned: the system gives out anew
// what nobody listens on yet.
var givenPorts sync.Map

// eventually calls f until it succeeds, for as long as a server may take.
func eventually(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}
