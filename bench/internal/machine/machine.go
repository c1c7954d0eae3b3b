// Package machine starts the processes of a run, each on a core of its own
// choice, and ends them.
package machine

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// startWithin is how long a server may take to answer.
const startWithin = 20 * time.Second

// Cores are the two that a run uses: one for the server that is measured,
// the other for all else.
type Cores struct {
	Server int `json:"server"`
	Load   int `json:"load"`
}

// PickCores takes the last two cores that this process may use: interrupts
// tend to go to the first.
func PickCores() (Cores, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return Cores{}, fmt.Errorf("read which cores may be used: %w", err)
	}
	var cores []int
	for i := range 1024 {
		if set.IsSet(i) {
			cores = append(cores, i)
		}
	}
	if len(cores) < 2 {
		return Cores{}, fmt.Errorf("%d core may be used; a run needs one for the server and one for its load", len(cores))
	}
	n := len(cores)
	return Cores{Server: cores[n-1], Load: cores[n-2]}, nil
}

// Process is one that was started.
type Process struct {
	PID    int
	cmd    *exec.Cmd
	name   string
	stderr tail
	done   chan struct{} // closed when it has ended
	err    error         // how; after done
}

// AnyCore stands for all cores that this process may use.
const AnyCore = -1

// Start starts a program on one core, or on [AnyCore]. It ends with the
// runner, however that ends.
func Start(core int, program string, args ...string) (*Process, error) {
	p := &Process{cmd: exec.Command(program, args...), name: filepath.Base(program), done: make(chan struct{})}
	p.cmd.Stderr = &p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := onCore(core, p.cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	p.PID = p.cmd.Process.Pid
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Output runs a program on one core and returns what it printed.
func Output(ctx context.Context, core int, program string, args ...string) ([]byte, error) {
	wait, err := Begin(ctx, core, nil, program, args...)
	if err != nil {
		return nil, err
	}
	return wait()
}

// Begin starts a program on one core. Wait, to be called once, returns what it
// printed when it has ended.
func Begin(ctx context.Context, core int, stdin io.Reader, program string, args ...string) (wait func() ([]byte, error), err error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var stdout bytes.Buffer
	var stderr tail
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	name := filepath.Base(program)
	if err := onCore(core, cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return func() ([]byte, error) {
		if err := cmd.Wait(); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", name, errors.Join(err, ctx.Err()), stderr.String())
		}
		return stdout.Bytes(), nil
	}, nil
}

// onCore runs start on a thread that may use the core only: what it starts
// inherits that.
func onCore(core int, start func() error) error {
	if core == AnyCore {
		return start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("read which cores may be used: %w", err)
	}
	set.Set(core)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("use core %d: %w", core, err)
	}
	err := start()
	if e := unix.SchedSetaffinity(0, &before); e != nil {
		return errors.Join(err, fmt.Errorf("go back to all cores: %w", e))
	}
	return err
}

// Stop ends the process at once, and waits for it.
func (p *Process) Stop() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// Ready waits until ready says so, and fails when the process ends before.
func (p *Process) Ready(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended: %w: %s", p.name, errors.Join(p.err, err), p.stderr.String())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: %s", p.name, err, p.stderr.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// client asks servers of the run, whose certificates are of its own making.
var client = &http.Client{Transport: &http.Transport{
	DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
}}

// Get returns what GET url is answered with, which must be 200. The caller
// closes it.
func Get(ctx context.Context, url string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		_ = res.Body.Close()
		return nil, fmt.Errorf("GET %s: %s", url, res.Status)
	}
	return res.Body, nil
}

// Answers returns a check that GET url is answered 200.
func Answers(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		body, err := Get(ctx, url)
		if err != nil {
			return err
		}
		return body.Close()
	}
}

// Redis starts a redis-server of the run's own that keeps nothing.
func Redis(ctx context.Context, core int, dir string) (*Process, string, error) {
	addr, err := FreeAddr()
	if err != nil {
		return nil, "", err
	}
	_, port, _ := net.SplitHostPort(addr)
	p, err := Start(core, "redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "",
		"--appendonly", "no", "--maxclients", "15000", "--maxmemory-policy", "noeviction")
	if err != nil {
		return nil, "", err
	}
	err = p.Ready(ctx, func(ctx context.Context) error {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Second))
		if _, err := c.Write([]byte("INFO server\r\n")); err != nil {
			return err
		}
		buf := make([]byte, 4096)
		n, err := c.Read(buf)
		if err == nil && !bytes.Contains(buf[:n], []byte("process_id:"+strconv.Itoa(p.PID))) {
			err = errors.New("another server answers on its port")
		}
		return err
	})
	if err != nil {
		p.Stop()
		return nil, "", err
	}
	return p, addr, nil
}

// FreeAddr returns a loopback address that was free a moment ago.
func FreeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// tail keeps the end of what a process says.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	const most = 4 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - most; over > 0 {
		t.text = slices.Delete(t.text, 0, over)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}
