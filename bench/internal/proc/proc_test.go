package proc

import (
	"os"
	"testing"
	"time"
)

func TestReadCPU(t *testing.T) {
	before, err := ReadCPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); time.Since(begin) < 100*time.Millisecond; {
	}
	after, err := ReadCPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	spent := after.Sub(before)
	if spent.Total <= 0 || (after.User+after.System-after.Total).Abs() > 50*time.Millisecond {
		t.Errorf("spent %+v, in all %+v", spent, after)
	}
	if _, err := ReadCPU(1 << 30); err == nil {
		t.Error("a process that is not there has a CPU time")
	}
}

func TestRSS(t *testing.T) {
	if rss, err := RSS(os.Getpid()); err != nil || rss < 1<<20 || rss > 1<<32 {
		t.Errorf("%d %v", rss, err)
	}
	if _, err := RSS(1 << 30); err == nil {
		t.Error("a process that is not there has memory")
	}
}

func TestMachine(t *testing.T) {
	const text = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 40 5 6 7 8 9 9\ncpu1 100 0 0 0 0 0 0 1 0 0\ncpu10 1 1 1 1 1 1 1 1 1 1\nintr 5\n"
	got, err := machine([]byte(text), []int{0, 1})
	if want := (Machine{All: 173 * tick, Idle: 45 * tick, Stolen: 9 * tick}); err != nil || got != want {
		t.Errorf("%+v %v, want %+v", got, err, want)
	}
	if _, err := machine([]byte(text), []int{0, 2}); err == nil {
		t.Error("a core that is not there has a time")
	}
	if m, err := ReadMachine(0); err != nil || m.All <= 0 || m.Idle > m.All {
		t.Errorf("%+v %v", m, err)
	}
}
