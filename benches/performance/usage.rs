//! What a process takes of the machine.

use std::time::Duration;

use procfs::process::Process;

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
