//! What a process takes of the machine.

use std::time::Duration;

use procfs::process::Process;
use tokio::process::Command;

/// Processor time so far, of all its threads, also of those that have ended.
pub fn processor(pid: u32) -> Duration {
    let stat = process(pid).stat().unwrap();
    let ticks = (stat.utime + stat.stime) as f64;
    Duration::from_secs_f64(ticks / procfs::ticks_per_second() as f64)
}

/// Memory and threads of the moment.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident, in bytes: its own and that of mapped files, the program itself among them.
    pub resident: u64,
    /// What of that is its own.
    pub anonymous: u64,
    /// Threads.
    pub threads: u64,
}

/// Of this process.
pub fn memory(pid: u32) -> Memory {
    let status = process(pid).status().unwrap();
    let bytes = |kib: Option<u64>| kib.unwrap() * 1024;
    Memory {
        resident: bytes(status.vmrss),
        anonymous: bytes(status.rssanon),
        threads: status.threads,
    }
}

fn process(pid: u32) -> Process {
    Process::new(pid.cast_signed()).unwrap()
}

/// Seconds of processor time so far, to the nanosecond: /proc counts in hundredths of a second.
///
/// Python reads the process's clock (`clock_getcpuclockid(3)`), for which Rust would need `unsafe`.
pub async fn processor_exact(pid: u32) -> f64 {
    let program = format!("import time; print(time.clock_gettime(~{pid} << 3 | 2))");
    let output = Command::new("python3").args(["-c", &program]).output();
    let output = String::from_utf8(output.await.unwrap().stdout).unwrap();
    output.trim().parse().unwrap()
}
