//! How processes ended, by the kernel's process connector.
//!
//! Only its parent is told how a process has ended. A pidfd tells others since Linux 6.15 only, and by an `ioctl` that
//! takes `unsafe` code. The kernel's process connector tells every end on a netlink socket to everybody, to users other
//! than root since Linux 6.6 (`connector.rst` of the kernel's documentation; `linux/cn_proc.h`, `linux/connector.h`).
//! It does so in the host's network and process namespaces only.
//!
//! The socket is open only while a copy runs, so that a quiet node does not fill it. It is read without waiting
//! wherever the end of a copy is to be judged: the process that ends queues the event itself.

use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recvfrom, send,
    socket_with, sockopt,
};

use super::process::Pid;

/// The connector's group and its value: processes (`CN_IDX_PROC`, `CN_VAL_PROC`).
const PROCESSES: u32 = 1;

/// `PROC_CN_MCAST_LISTEN`.
const LISTEN: u32 = 1;

/// `PROC_EVENT_EXIT`: a task has ended.
const EXIT: u32 = 0x8000_0000;

/// `NLMSG_DONE`: a message that is whole.
const DONE: u16 = 3;

/// The lengths of `struct nlmsghdr` and `struct cn_msg`, and of what precedes the particulars in `struct proc_event`.
const NETLINK_HEADER: usize = 16;
const CONNECTOR_HEADER: usize = 20;
const EVENT_HEADER: usize = 16;

/// Longer than any event.
const LONGEST: usize = 1024;

/// What may be queued between two reads, in bytes: the kernel takes what it allows of it.
const QUEUE: usize = 1 << 20;

/// At most so many queued ends are read at a time, so that a flood of them delays nothing else.
const AT_ONCE: usize = 4096;

/// A process that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::progress) struct ProcessEnd {
    /// Which.
    pub pid: Pid,
    /// Its exit status, or the signal that killed it.
    pub status: ExitStatus,
}

/// Hears of every process that ends from now on.
#[derive(Debug)]
pub(in crate::progress) struct ProcessEnds {
    socket: OwnedFd,
}

impl ProcessEnds {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// The kernel's: `EPERM` before Linux 6.6, others where there is no connector or a sandbox forbids it.
    pub(in crate::progress) fn listen() -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            flags,
            Some(netlink::CONNECTOR),
        )?;
        // Not required: the kernel's default would do for most nodes.
        let _ = sockopt::set_socket_recv_buffer_size(&socket, QUEUE);
        bind(&socket, &SocketAddrNetlink::new(0, PROCESSES))?;
        send(&socket, &request(), SendFlags::empty())?;
        Ok(Self { socket })
    }

    /// The processes that have ended since the last time. Waits for nothing.
    ///
    /// Where the kernel had to drop some, nothing is known of those.
    pub(in crate::progress) fn take(&self) -> Vec<ProcessEnd> {
        let mut ends = Vec::new();
        for _ in 0..AT_ONCE {
            let mut bytes = [0; LONGEST];
            match recvfrom(&self.socket, &mut bytes[..], RecvFlags::empty()) {
                Ok((length, _, sender)) => {
                    let sender = sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok());
                    // The kernel's own number; a process may not send to the group, but it may try.
                    let from_kernel = sender.is_some_and(|sender| sender.pid() == 0);
                    let told = bytes.get(..length).filter(|_| from_kernel);
                    ends.extend(told.and_then(parse));
                }
                // Some were dropped; the rest is still there.
                Err(Errno::NOBUFS | Errno::INTR) => {}
                Err(_) => break,
            }
        }
        ends
    }
}

/// `struct proc_input` in its envelopes: only ends are wanted. Kernels that do not know this filter, before 6.6, take
/// nothing of it and stay silent.
fn request() -> Vec<u8> {
    let input = [LISTEN, EXIT].map(u32::to_ne_bytes).concat();
    let length = NETLINK_HEADER + CONNECTOR_HEADER + input.len();
    let mut bytes = Vec::with_capacity(length);
    // The lengths are constants far below the types' bounds.
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(DONE.to_ne_bytes());
    bytes.extend([0; 10]);
    bytes.extend([PROCESSES, PROCESSES, 0, 0].map(u32::to_ne_bytes).concat());
    bytes.extend((input.len() as u16).to_ne_bytes());
    bytes.extend([0; 2]);
    bytes.extend(input);
    bytes
}

/// The end of a process in one message; `None` for threads and other events.
fn parse(message: &[u8]) -> Option<ProcessEnd> {
    let event = message.get(NETLINK_HEADER + CONNECTOR_HEADER..)?;
    let word = |at: usize| -> Option<u32> {
        let bytes = event.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_ne_bytes(bytes))
    };
    let (pid, process) = (word(EVENT_HEADER)?, word(EVENT_HEADER + 4)?);
    let status = word(EVENT_HEADER + 8)?;
    (word(0)? == EXIT && pid == process).then(|| ProcessEnd {
        pid: pid.cast_signed(),
        status: ExitStatus::from_raw(status.cast_signed()),
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    /// A message as the kernel sends it.
    fn message(what: u32, pid: u32, process: u32, status: u32) -> Vec<u8> {
        let mut bytes = vec![0; NETLINK_HEADER + CONNECTOR_HEADER];
        bytes.extend(what.to_ne_bytes());
        bytes.extend([0; EVENT_HEADER - 4]);
        bytes.extend([pid, process, status, 17].map(u32::to_ne_bytes).concat());
        bytes
    }

    #[test]
    fn the_end_of_a_process_is_read_and_nothing_else() {
        let end = parse(&message(EXIT, 7, 7, 3 << 8)).unwrap();
        assert_eq!((end.pid, end.status.code()), (7, Some(3)));
        let killed = parse(&message(EXIT, 7, 7, 9)).unwrap();
        assert_eq!(killed.status.signal(), Some(9));
        assert_eq!(parse(&message(EXIT, 8, 7, 0)), None, "a thread");
        assert_eq!(parse(&message(2, 7, 7, 0)), None, "an exec");
        assert_eq!(parse(&message(EXIT, 7, 7, 0)[..60]), None, "torn");
    }

    proptest! {
        #[test]
        fn no_message_makes_the_reader_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }

    #[test]
    fn real_processes_are_heard_of() {
        let Ok(ends) = ProcessEnds::listen() else {
            eprintln!("LEFT OUT: this kernel or sandbox tells nobody how processes end");
            return;
        };
        let words = ["exit 0", "exit 3", "kill -9 $$"];
        let mut children = words.map(|word| Command::new("sh").args(["-c", word]).spawn().unwrap());
        let pids = children.each_ref().map(|child| child.id().cast_signed());
        let wanted = children.each_mut().map(|child| child.wait().unwrap());
        let mut seen = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(20);
        while seen.len() < pids.len() {
            // In a container's own namespace nothing comes.
            if Instant::now() >= deadline && seen.is_empty() {
                eprintln!("LEFT OUT: the kernel tells nothing here");
                return;
            }
            assert!(Instant::now() < deadline, "{seen:?}");
            let ends = ends.take().into_iter();
            seen.extend(ends.filter(|end| pids.contains(&end.pid)));
            std::thread::sleep(Duration::from_millis(5));
        }
        for (pid, status) in pids.into_iter().zip(wanted) {
            assert!(seen.contains(&ProcessEnd { pid, status }), "{seen:?}");
        }
    }
}
