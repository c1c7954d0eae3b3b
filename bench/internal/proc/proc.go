// Package proc reads what a process costs, from the kernel.
package proc

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const tick = time.Second / 100 // USER_HZ

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
		return c, fmt.Errorf("read a process's CPU time: %w", err)
	}
	// The name, in parentheses, may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const utime, stime = 14 - 3, 15 - 3 // of proc(5), counted from the state
	if len(fields) <= stime {
		return c, fmt.Errorf("read a process's CPU time: /proc/%d/stat has %d fields", pid, len(fields))
	}
	user, err1 := strconv.ParseInt(string(fields[utime]), 10, 64)
	system, err2 := strconv.ParseInt(string(fields[stime]), 10, 64)
	if err1 != nil || err2 != nil {
		return c, fmt.Errorf("read a process's CPU time: /proc/%d/stat has no numbers", pid)
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
	return 0, fmt.Errorf("read a process's memory: /proc/%d tells none", pid)
}

// Machine is how the time of some cores went since the machine started, in
// steps of a hundredth of a second.
type Machine struct {
	// All is the sum of the rest; Idle includes waiting for disks; Stolen is
	// what a hypervisor gave to others.
	All, Idle, Stolen time.Duration
}

// Sub returns what went since an earlier reading.
func (m Machine) Sub(since Machine) Machine {
	return Machine{All: m.All - since.All, Idle: m.Idle - since.Idle, Stolen: m.Stolen - since.Stolen}
}

// ReadMachine returns how the time of these cores went.
func ReadMachine(cores ...int) (Machine, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Machine{}, fmt.Errorf("read the cores' time: %w", err)
	}
	return machine(text, cores)
}

func machine(text []byte, cores []int) (m Machine, err error) {
	left := len(cores)
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) == 0 || !slices.ContainsFunc(cores, func(n int) bool { return string(fields[0]) == fmt.Sprintf("cpu%d", n) }) {
			continue
		}
		left--
		// user nice system idle iowait irq softirq steal; guests are in user.
		for i, field := range fields[1:min(len(fields), 9)] {
			n, err := strconv.ParseInt(string(field), 10, 64)
			if err != nil {
				return m, fmt.Errorf("read the cores' time: %w", err)
			}
			d := time.Duration(n) * tick
			m.All += d
			switch i {
			case 3, 4:
				m.Idle += d
			case 7:
				m.Stolen += d
			}
		}
	}
	if left > 0 {
		return m, fmt.Errorf("read the cores' time: /proc/stat lacks some of the cores %v", cores)
	}
	return m, nil
}
