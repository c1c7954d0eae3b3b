package test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// stopWithin is how long a program may take to stop when it is told to.
const stopWithin = 10 * time.Second

// process is a running program.
type process struct {
	cmd    *exec.Cmd
	log    string        // path of what it writes to its output and errors
	exited chan struct{} // closed when it has ended
	err    error         // how it ended
	told   bool          // to stop
}

// start runs a program in an environment of its own. When the test ends it is
// told to stop, and fails the test if it does not do so cleanly and in time,
// or had ended before.
func start(t *testing.T, env []string, binary string, args ...string) *process {
	t.Helper()
	p := launch(t, env, binary, args...)
	t.Cleanup(func() {
		select {
		case <-p.exited:
			if !p.told {
				t.Errorf("%s ended by itself: %v", filepath.Base(binary), p.err)
			}
		default:
			if err := p.stop(); err != nil {
				t.Errorf("%s did not stop cleanly: %v", filepath.Base(binary), err)
			}
		}
		if t.Failed() {
			text := p.output(t)
			t.Logf("%s wrote:\n%s", filepath.Base(binary), text[max(0, len(text)-8000):])
		}
	})
	return p
}

// launch is start for a program that may end by itself.
func launch(t *testing.T, env []string, binary string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(binary, args...), exited: make(chan struct{})}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	log, err := os.Create(filepath.Join(t.TempDir(), filepath.Base(binary)+".log"))
	if err != nil {
		t.Fatal(err)
	}
	p.log = log.Name()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	err = p.cmd.Start()
	log.Close() // the program has it
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		select {
		case <-p.exited:
		default:
			_ = p.cmd.Process.Kill() // it has been asked before
			<-p.exited
		}
	})
	return p
}

// stop tells the program to stop and returns how it ended.
func (p *process) stop() error {
	p.told = true
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.exited:
		return p.err
	case <-time.After(stopWithin):
		return errors.New("it still runs after " + stopWithin.String())
	}
}

// output returns what the program has written so far.
func (p *process) output(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(p.log)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
