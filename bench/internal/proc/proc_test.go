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
