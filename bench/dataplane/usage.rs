//! What a process costs, from the kernel's accounting: CPU seconds of all its threads, resident memory.

use std::fs;
use std::time::Instant;

/// Clock ticks per second in `/proc/PID/stat`: USER_HZ, which is 100 on every platform that Linux shows to programs.
const TICKS: f64 = 100.0;

/// One look at a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Seconds of CPU since its start, user and system, of living and ended threads.
    pub cpu: f64,
    /// MB resident now, and at most so far.
    pub resident: f64,
    pub peak: f64,
}

/// Looks at a process; zeros when it is gone.
pub fn usage(pid: u32) -> Usage {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    Usage {
        cpu: (cpu_ticks(&stat).unwrap_or_default() / TICKS).max(living(pid)),
        resident: megabytes(&status, "VmRSS:").unwrap_or_default(),
        peak: megabytes(&status, "VmHWM:").unwrap_or_default(),
    }
}

/// As the ticks, of living threads only, but to the nanosecond: the same when no thread has ended.
fn living(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let spent = tasks.filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok());
    let nanoseconds = spent.filter_map(|text| text.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.sum::<f64>() / 1e9
}

/// utime + stime: fields 14 and 15, counted from the process id; the name before them may hold anything.
fn cpu_ticks(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// A line of `/proc/PID/status`, which counts in KiB.
fn megabytes(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

/// What a process used while something was done.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub cpu: f64,
    pub wall: f64,
    pub resident: f64,
    pub peak: f64,
}

/// Does it and accounts for it.
pub fn costs<T>(pid: Option<u32>, work: impl FnOnce() -> T) -> (T, Cost) {
    let look = || pid.map(usage).unwrap_or_default();
    let (before, start) = (look(), Instant::now());
    let done = work();
    let (wall, after) = (start.elapsed().as_secs_f64(), look());
    (done, Cost { cpu: after.cpu - before.cpu, wall, resident: after.resident, peak: after.peak })
}

// A bench is built with its unit tests' helpers, but without the tests: those run in the integration tests' binary.
#[cfg(test)]
#[allow(dead_code, unused_imports)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_those_of_user_and_system() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 8 0 100";
        assert_eq!(cpu_ticks(stat), Some(300.0));
        assert_eq!(cpu_ticks("42 (short) S 1"), None);
    }

    #[test]
    fn memory_is_in_megabytes() {
        let status = "Name:\tx\nVmHWM:\t  200000 kB\nVmRSS:\t  125000 kB\n";
        assert_eq!(megabytes(status, "VmRSS:"), Some(128.0));
        assert_eq!(megabytes(status, "VmHWM:"), Some(204.8));
        assert_eq!(megabytes(status, "VmSwap:"), None);
    }

    #[test]
    fn work_is_accounted_to_the_process_that_does_it() {
        let (sum, cost) = costs(Some(std::process::id()), || {
            let start = Instant::now();
            let mut sum = 0u64;
            while start.elapsed().as_millis() < 100 {
                sum = sum.wrapping_add(1);
            }
            sum
        });
        assert!(sum > 0 && cost.wall >= 0.1, "{cost:?}");
        assert!(cost.cpu > 0.0 && cost.resident > 1.0, "{cost:?}");
        assert_eq!(costs(None, || ()).1.cpu, 0.0);
    }
}
