// Package proc reads what a process costs, from the kernel.
package proc

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// CPU is the time that a process has spent on a CPU.
type CPU struct {
	// Total is to the nanosecond: the process's CPU clock, which is what
	// utime and stime are made of.
	Total time.Duration
	// User and System are utime and stime of /proc/PID/stat, in steps of a
	// hundredth of a second.
	User, System time.Duration
}

// Sub returns what was spent since an earlier reading.
func (c CPU) Sub(since CPU) CPU {
	return CPU{Total: c.Total - since.Total, User: c.User - since.User, System: c.System - since.System}
}

// ReadCPU returns what the process has spent so far. The processor time that
// the kernel spends in its name on both ends of a loopback connection is part
// of it.
func ReadCPU(pid int) (CPU, error) {
	var c CPU
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return c, fmt.Errorf("read the server's CPU time: %w", err)
	}
	// The name, in parentheses, may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const utime, stime = 14 - 3, 15 - 3 // of proc(5), counted from the state
	if len(fields) <= stime {
		return c, fmt.Errorf("read the server's CPU time: /proc/%d/stat has %d fields", pid, len(fields))
	}
	const tick = time.Second / 100 // USER_HZ
	user, err1 := strconv.ParseInt(string(fields[utime]), 10, 64)
	system, err2 := strconv.ParseInt(string(fields[stime]), 10, 64)
	if err1 != nil || err2 != nil {
		return c, fmt.Errorf("read the server's CPU time: /proc/%d/stat has no numbers", pid)
	}
	c.User, c.System = time.Duration(user)*tick, time.Duration(system)*tick
	// clock_getcpuclockid(3): the complement of the process, and the scheduler's clock.
	const schedClock = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|schedClock), &ts); err != nil {
		c.Total = c.User + c.System
		return c, nil
	}
	c.Total = time.Duration(ts.Nano())
	return c, nil
}

// RSS returns how many bytes of the process are in memory.
func RSS(pid int) (int64, error) {
	for _, f := range []struct{ file, field string }{{"smaps_rollup", "Rss:"}, {"status", "VmRSS:"}} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, f.file))
		if err != nil {
			continue
		}
		for line := range bytes.Lines(text) {
			if rest, ok := bytes.CutPrefix(line, []byte(f.field)); ok {
				if fields := bytes.Fields(rest); len(fields) == 2 {
					kib, err := strconv.ParseInt(string(fields[0]), 10, 64)
					if err == nil {
						return kib << 10, nil
					}
				}
			}
		}
	}
	return 0, fmt.Errorf("read the server's memory: /proc/%d tells none", pid)
}
