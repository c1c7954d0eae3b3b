package report

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/runcast/runcast/bench/internal/proc"
)

// Describe fills in what the figures are found on.
func (r *Run) Describe() {
	r.Go = runtime.Version()
	r.CPU = "unknown CPU"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				r.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		r.Kernel = string(bytes.TrimRight(u.Release[:], "\x00"))
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		first, _, _ := strings.Cut(string(text), " ")
		r.Load1, _ = strconv.ParseFloat(first, 64) // zero where it is not told
	}
	before, err := proc.ReadMachine(r.Cores.Server, r.Cores.Load)
	if err != nil {
		return
	}
	time.Sleep(time.Second)
	if now, err := proc.ReadMachine(r.Cores.Server, r.Cores.Load); err == nil {
		spent := now.Sub(before)
		r.Busy = 1 - float64(spent.Idle)/float64(max(spent.All, 1))
	}
}
