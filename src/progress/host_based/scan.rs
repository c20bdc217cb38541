//! The processes of the node, looked at incrementally.
//!
//! A node has thousands of processes and at most a handful of dd. Listing them all each second would be
//! most of the daemon's work, so the list is read every now and then, and in between what was born since.
//! Processes are read when they are new, when they are dd, or when they are young, because a process
//! takes dd's name only when it calls exec, some time after it was born.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::operands::{Operands, Purpose};
use crate::progress::Roots;
use crate::progress::device::Identity;
use crate::progress::file_based::open_files;
use crate::progress::proc::bounded::{EVERYONE, Looks};
use crate::progress::proc::error::ProgressError;
use crate::progress::proc::fdinfo;
use crate::progress::proc::new_pids;
use crate::progress::proc::process::{self, Pid, ProcessId};

/// How long after it was first seen a process is looked at in every scan. sudo, rootwrap and ionice
/// call exec within a second or two, on a slow node within ten. Afterwards it is looked at again whenever
/// it has grown older by a quarter, for those that call exec late in life.
const YOUTH: Duration = Duration::from_secs(10);

/// The longest time between two looks at a process.
const SECOND_LOOK: Duration = Duration::from_secs(600);

/// How often all processes are listed, though the kernel tells who was born: for the sake of those that
/// came into the namespace with an id of somebody's choice, as from a checkpoint (`criu(8)`). Where the
/// kernel is short of memory it forgets the folders of all of them, and then each list costs as much as the
/// first.
const CENSUS: Duration = Duration::from_secs(600);

/// Who was there before us is not young, but for the last so many ids: they may be about to call exec.
const JUST_BORN: Pid = 256;

/// A dd that copies or wipes.
#[derive(Debug, Clone)]
pub(in crate::progress) struct Found {
    /// The process.
    pub id: ProcessId,
    /// Copy or wipe.
    pub purpose: Purpose,
    /// What `if=` means.
    pub source: Identity,
    /// What `of=` means.
    pub destination: Identity,
    /// Bytes of one write.
    pub block: u64,
    /// Where in its source it ends: where the source does, unless it was told of less.
    pub bytes: Option<u64>,
    /// Where in its source and in its destination it begins.
    pub begin: Begin,
    /// Where its destination was written at the time of the look; `None` when that could not be told.
    pub written: Option<fdinfo::Found>,
    /// When that was.
    pub at: Instant,
}

/// Where a dd begins that was told to skip some of its source, or of its destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::progress) struct Begin {
    /// Bytes of the source, by `skip=`.
    pub skip: u64,
    /// Bytes of the destination, by `seek=`.
    pub seek: u64,
}

impl Begin {
    /// How far it is in its source when it is at `position` in its destination. One that copies the
    /// second half of a volume is past the half.
    pub(in crate::progress) fn in_source(self, position: u64) -> u64 {
        position.saturating_sub(self.seek).saturating_add(self.skip)
    }
}

/// What a scan brought.
#[derive(Debug, Default)]
pub(in crate::progress) struct Scan {
    /// Every dd looked at in full: new ones, and such whose names are still not traced.
    pub found: Vec<Found>,
    /// Every living dd.
    pub alive: HashSet<ProcessId>,
    /// Every process whose name is one of those that copy through open files.
    pub copiers: Vec<Pid>,
    /// Those of them that are cinder-volume by their name.
    pub cinder_volumes: Vec<Pid>,
    /// Processes that could not be looked at, so nothing may be concluded about them.
    pub unsure: HashSet<Pid>,
    /// Why not, for the first of them.
    pub trouble: Option<ProgressError>,
}

/// What is known of the processes from earlier scans.
#[derive(Debug, Default)]
pub(in crate::progress) struct Table {
    known: HashMap<Pid, Known>,
    cursor: Option<Cursor>,
    /// Whether other people's processes are hidden.
    hidden: bool,
    /// Whether a process was born with an id that the kernel's word had announced. In a container that word
    /// may be the host's, and tell of ids that nobody here has.
    proved: bool,
}

/// How far the kernel had come in giving out process ids.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    /// At the look before the last. One that had its id then may not have been there yet.
    before: Pid,
    /// At the last look.
    last: Pid,
    /// When all processes were listed.
    listed: Instant,
}

/// Who is to be looked at.
enum Census {
    /// Every process, with the inode number of its folder, and whether there are others hidden.
    All(Vec<(Pid, u64)>, bool),
    /// Those born since; the others are known.
    Born(Vec<(Pid, u64)>),
}

#[derive(Debug)]
struct Known {
    inode: u64,
    /// `None` for who was there before us.
    first_seen: Option<Instant>,
    looked_at: Instant,
    kind: Kind,
    /// Whether it has the name of those that copy through open files.
    copier: Copier,
}

/// What a process is called, as far as copies through open files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copier {
    /// Something else.
    No,
    /// As one of those that may make them.
    Perhaps,
    /// cinder-volume.
    CinderVolume,
}

impl Copier {
    fn of(comm: &[u8]) -> Self {
        match () {
            () if open_files::may_be_cinder_volume(comm) => Self::CinderVolume,
            () if open_files::may_copy(comm) => Self::Perhaps,
            () => Self::No,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    NotDd,
    /// A dd that is understood: only its identity is looked at again.
    Dd(ProcessId),
    /// To be looked at in full in every scan.
    Open,
}

/// What one look at one process told.
enum Seen {
    Gone,
    NotDd {
        copier: Copier,
    },
    Unchanged(ProcessId),
    /// dd between exec and its command line, or one that neither copies nor wipes.
    Aside(ProcessId, Kind),
    Found(Box<Found>),
}

impl Known {
    /// Whether it is to be looked at.
    fn is_due(&self, now: Instant) -> bool {
        let pause = self.first_seen.map_or(SECOND_LOOK, |first_seen| {
            (now.duration_since(first_seen).saturating_sub(YOUTH) / 4).min(SECOND_LOOK)
        });
        self.kind != Kind::NotDd || now.duration_since(self.looked_at) >= pause
    }
}

impl Table {
    /// Looks at all processes that may be, or may have become, dd.
    pub(in crate::progress) async fn scan(
        &mut self,
        looks: &Looks,
        roots: &Roots,
    ) -> Result<Scan, ProgressError> {
        let begun = Instant::now();
        let proc = roots.proc.clone();
        // Where processes are hidden all that are to be seen are listed, until none is hidden.
        let cursor = self.cursor.filter(|_| !self.hidden);
        let (mut census, last) = looks
            .one(EVERYONE, move |_| take_census(&proc, cursor))
            .await?;
        if let (Census::Born(born), Some(cursor)) = (&census, cursor) {
            let announced = |(pid, inode): &(Pid, u64)| {
                let known = self.known.get(pid);
                *pid > cursor.last && known.is_none_or(|known| known.inode != *inode)
            };
            self.proved |= born.iter().any(announced);
            if !self.proved && last != Some(cursor.last) {
                let proc = roots.proc.clone();
                census = looks.one(EVERYONE, move |_| list_all(&proc)).await?;
            }
        }
        let mut listed = cursor.map_or(begun, |cursor| cursor.listed);
        match census {
            Census::All(list, hidden) => {
                let present: HashSet<Pid> = list.iter().map(|&(pid, _)| pid).collect();
                self.known.retain(|pid, _| present.contains(pid));
                self.hidden = hidden;
                listed = begun;
                // Without the kernel's word, or with another kernel's, nobody is known to be old.
                let young = match (cursor, last) {
                    (None, Some(last)) => {
                        let last_born = last.saturating_sub(JUST_BORN)..;
                        let is_there = list.iter().any(|(pid, _)| last_born.contains(pid));
                        if is_there { last_born } else { Pid::MIN.. }
                    }
                    _ => Pid::MIN..,
                };
                for (pid, inode) in list {
                    let first_seen = young.contains(&pid).then_some(begun);
                    self.meet(pid, inode, begun, first_seen);
                }
            }
            Census::Born(born) => {
                for (pid, inode) in born {
                    // One that had this id before has ended unseen.
                    if self
                        .known
                        .get(&pid)
                        .is_some_and(|known| known.inode != inode)
                    {
                        self.known.remove(&pid);
                    }
                    let known = self.meet(pid, inode, begun, Some(begun));
                    known.first_seen.get_or_insert(begun);
                }
            }
        }
        self.cursor = last.map(|last| Cursor {
            before: cursor.map_or(last, |cursor| cursor.last),
            last,
            listed,
        });
        let mut scan = Scan {
            trouble: self.hidden.then(|| ProgressError::Hidden {
                path: roots.proc.clone(),
            }),
            ..Scan::default()
        };

        let due: Vec<Pid> = self
            .known
            .iter()
            .filter(|(_, known)| known.is_due(begun))
            .map(|(&pid, _)| pid)
            .collect();

        let understood: HashMap<Pid, ProcessId> = self
            .known
            .iter()
            .filter_map(|(&pid, known)| match known.kind {
                Kind::Dd(id) => Some((pid, id)),
                _ => None,
            })
            .collect();
        let roots = Arc::new(roots.clone());
        let work = move |pid| look(&roots, pid, understood.get(&pid).copied());
        looks
            .each(due, work, |pid, seen| {
                self.note(pid, seen, begun, &mut scan)
            })
            .await;
        scan.copiers = self.called(|copier| copier != Copier::No);
        scan.cinder_volumes = self.called(|copier| copier == Copier::CinderVolume);
        Ok(scan)
    }

    fn called(&self, so: impl Fn(Copier) -> bool) -> Vec<Pid> {
        let known = self.known.iter().filter(|(_, known)| so(known.copier));
        known.map(|(&pid, _)| pid).collect()
    }

    /// Makes the acquaintance of a process, if it is a new one.
    ///
    /// Another inode number means another process, or that the kernel has dropped the folder from its
    /// memory for a while: it is looked at, but not taken for young.
    fn meet(
        &mut self,
        pid: Pid,
        inode: u64,
        now: Instant,
        first_seen: Option<Instant>,
    ) -> &mut Known {
        let known = self.known.entry(pid).or_insert(Known {
            inode,
            first_seen,
            looked_at: now,
            kind: Kind::Open,
            copier: Copier::No,
        });
        if known.inode != inode {
            known.inode = inode;
            known.kind = Kind::Open;
            known.copier = Copier::No;
        }
        known
    }

    fn note(&mut self, pid: Pid, seen: Result<Seen, ProgressError>, now: Instant, scan: &mut Scan) {
        let Some(known) = self.known.get_mut(&pid) else {
            return;
        };
        known.looked_at = now;
        known.copier = match &seen {
            Ok(Seen::NotDd { copier }) => *copier,
            Ok(_) => Copier::No,
            Err(_) => known.copier,
        };
        match seen {
            Ok(Seen::Gone) => {
                self.known.remove(&pid);
            }
            Ok(Seen::NotDd { .. }) => known.kind = Kind::NotDd,
            Ok(Seen::Unchanged(id)) => {
                scan.alive.insert(id);
            }
            Ok(Seen::Aside(id, kind)) => {
                if known.kind != kind {
                    tracing::debug!(pid, "a dd that neither copies nor wipes a volume");
                }
                known.kind = kind;
                scan.alive.insert(id);
            }
            Ok(Seen::Found(found)) => {
                let volume = match found.purpose {
                    Purpose::Wipe => &found.destination,
                    Purpose::Copy | Purpose::Other => &found.source,
                };
                known.kind = if volume.is_traced() {
                    Kind::Dd(found.id)
                } else {
                    Kind::Open
                };
                scan.alive.insert(found.id);
                scan.found.push(*found);
            }
            Err(error) => {
                scan.unsure.insert(pid);
                // One that is understood already cannot be the dd of a volume that has none so far.
                if known.kind == Kind::Open {
                    scan.trouble.get_or_insert(error);
                }
            }
        }
    }
}

/// Lists all processes, or only those born since `cursor` where the kernel tells who they are.
fn take_census(
    proc: &Path,
    cursor: Option<Cursor>,
) -> Result<(Census, Option<Pid>), ProgressError> {
    // Before the list is read: who is born meanwhile is on the next one if not on this.
    let last = new_pids::last_pid(proc);
    if let (Some(cursor), Some(last)) = (cursor, last)
        && cursor.listed.elapsed() < CENSUS
        && let Some(born) = new_pids::between(proc, cursor.before, last)
    {
        return Ok((Census::Born(born), Some(last)));
    }
    Ok((list_all(proc)?, last))
}

fn list_all(proc: &Path) -> Result<Census, ProgressError> {
    let list = process::list(proc)?;
    let hidden = list.iter().all(|&(pid, _)| pid != 1) && process::hides_others(proc);
    Ok(Census::All(list, hidden))
}

/// Looks at one process. `comm` comes first: the command line of a process stuck in the kernel can
/// hang its reader, so only that of a dd is read.
fn look(roots: &Roots, pid: Pid, understood: Option<ProcessId>) -> Result<Seen, ProgressError> {
    match process::comm(&roots.proc, pid)? {
        None => return Ok(Seen::Gone),
        Some(comm) if comm != b"dd" => {
            return Ok(Seen::NotDd {
                copier: Copier::of(&comm),
            });
        }
        Some(_) => {}
    }
    let Some(id) = process::identity(&roots.proc, pid)? else {
        return Ok(Seen::Gone);
    };
    if understood == Some(id) {
        return Ok(Seen::Unchanged(id));
    }
    let Some(arguments) = process::arguments(&roots.proc, pid)? else {
        return Ok(Seen::Gone);
    };
    if arguments.is_empty() {
        return Ok(Seen::Aside(id, Kind::Open));
    }
    let operands = Operands::parse(&arguments);
    let purpose = operands.purpose();
    let (Some(source), Some(destination)) = (&operands.source, &operands.destination) else {
        return Ok(Seen::Aside(id, Kind::Dd(id)));
    };
    if purpose == Purpose::Other {
        return Ok(Seen::Aside(id, Kind::Dd(id)));
    }
    let source = Identity::seen_by(roots, pid, source);
    let destination = Identity::seen_by(roots, pid, destination);
    if source.same_as(&destination) {
        return Ok(Seen::Aside(id, Kind::Dd(id)));
    }
    let at = Instant::now();
    // Whoever asks for this copy reads its position again and is told what stands in the way.
    let written = fdinfo::destination(&roots.proc, pid, &destination).unwrap_or_default();
    // All of the above is worth something only if the pid was not given away meanwhile.
    if process::identity(&roots.proc, pid)? != Some(id) {
        return Ok(Seen::Gone);
    }
    let told = operands
        .bytes
        .map(|bytes| bytes.saturating_add(operands.skip));
    let bytes = match (told, source.bytes()) {
        (Some(told), Some(there)) => Some(told.min(there)),
        (told, there) => told.or(there),
    };
    Ok(Seen::Found(Box::new(Found {
        id,
        purpose,
        source,
        destination,
        block: operands.block,
        bytes,
        begin: Begin {
            skip: operands.skip,
            seek: operands.seek,
        },
        written,
        at,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::tests::fake_host::Fake;

    async fn scan(table: &mut Table, fake: &Fake) -> Scan {
        let roots = fake.roots();
        table.scan(&Looks::new(&roots.proc), &roots).await.unwrap()
    }

    fn pids(scan: &Scan) -> Vec<Pid> {
        let mut pids: Vec<Pid> = scan.found.iter().map(|found| found.id.pid).collect();
        pids.sort_unstable();
        pids
    }

    #[tokio::test]
    async fn only_dd_itself_is_found_and_never_its_wrappers() {
        let fake = Fake::new();
        let command = ["dd", "if=/dev/vg/a", "of=/dev/vg/b"];
        for (pid, wrapper) in [
            (2, "sudo"),
            (3, "cinder-rootwrap"),
            (4, "ionice"),
            (5, "cgexec"),
            (6, "busybox"),
        ] {
            let mut line = vec![wrapper];
            line.extend(command);
            fake.process(pid, wrapper).arguments(&line);
        }
        fake.dd(7, "/dev/vg/a", "/dev/vg/b", 4096);
        let scan = scan(&mut Table::default(), &fake).await;
        assert_eq!(pids(&scan), [7]);
        assert_eq!(scan.found[0].written.unwrap().position, 4096);
        assert_eq!(scan.trouble, None);
    }

    #[tokio::test]
    async fn the_command_line_of_others_is_never_read() {
        let fake = Fake::new();
        fake.process(2, "sudo").file("cmdline", "");
        fake.remove("proc/2/cmdline");
        std::fs::create_dir(fake.path("proc/2/cmdline")).unwrap();
        let scan = scan(&mut Table::default(), &fake).await;
        assert_eq!(
            scan.trouble, None,
            "a folder for a command line would have been an error"
        );
    }

    #[tokio::test]
    async fn a_dd_is_understood_once_and_then_only_recognised() {
        let fake = Fake::new();
        fake.dd(7, "/dev/vg/a", "/dev/vg/b", 0);
        let mut table = Table::default();
        assert_eq!(pids(&scan(&mut table, &fake).await), [7]);
        let again = scan(&mut table, &fake).await;
        assert!(pids(&again).is_empty());
        assert!(again.alive.contains(&ProcessId { start: 7, pid: 7 }));
        fake.end(7);
        assert!(scan(&mut table, &fake).await.alive.is_empty());
    }

    #[tokio::test]
    async fn a_young_process_that_becomes_dd_is_noticed() {
        let fake = Fake::new();
        fake.process(7, "cinder-rootwrap");
        let mut table = Table::default();
        assert!(pids(&scan(&mut table, &fake).await).is_empty());
        fake.dd(7, "/dev/vg/a", "/dev/vg/b", 0);
        assert_eq!(pids(&scan(&mut table, &fake).await), [7]);
    }

    #[tokio::test]
    async fn an_old_process_is_looked_at_ever_more_seldom() {
        let mut table = Table::default();
        let begun = Instant::now();
        let mut looks = Vec::new();
        for second in 0..7200 {
            let now = begun + Duration::from_secs(second);
            if table.meet(7, 70, now, Some(begun)).is_due(now) {
                let not_dd = Ok(Seen::NotDd { copier: Copier::No });
                table.note(7, not_dd, now, &mut Scan::default());
                looks.push(second);
            }
        }
        assert_eq!(looks[..11], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        let pauses: Vec<u64> = looks.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let late = |(pause, &at): (&u64, &u64)| pause * 4 > at + 4;
        assert!(!pauses.iter().zip(&looks[1..]).any(late), "{looks:?}");
        assert!(pauses.contains(&SECOND_LOOK.as_secs()), "{looks:?}");
        assert!(looks.len() < 50, "{looks:?}");
    }

    #[tokio::test]
    async fn who_was_there_before_is_looked_at_once_and_another_inode_means_once_more() {
        let mut table = Table::default();
        let now = Instant::now();
        let mut due = |inode, after: u64| {
            let now = now + Duration::from_secs(after);
            let due = table.meet(7, inode, now, None).is_due(now);
            let not_dd = Ok(Seen::NotDd { copier: Copier::No });
            table.note(7, not_dd, now, &mut Scan::default());
            due
        };
        assert!(due(70, 0));
        assert!(!due(70, 1));
        assert!(due(71, 2));
        assert!(!due(71, 3));
    }

    #[tokio::test]
    async fn of_those_there_before_only_the_last_born_are_young() {
        let fake = Fake::new();
        fake.process(1, "systemd");
        fake.process(2, "sudo");
        fake.process(5000, "sudo");
        last_born(&fake, 5000);
        let mut table = Table::default();
        scan(&mut table, &fake).await;
        fake.dd(2, "/dev/vg/a", "/dev/vg/b", 0);
        fake.dd(5000, "/dev/vg/a", "/dev/vg/b", 0);
        assert_eq!(pids(&scan(&mut table, &fake).await), [5000]);
    }

    /// Makes the kernel's word on the last process id part of the made-up tree.
    fn last_born(fake: &Fake, pid: Pid) {
        fake.link("proc/self", &std::process::id().to_string());
        fake.write("proc/loadavg", &format!("0.00 0.00 0.00 1/9 {pid}\n"));
    }

    #[tokio::test]
    async fn a_newborn_with_the_id_of_one_that_ended_unseen_is_young() {
        let fake = Fake::new();
        fake.process(5, "bash").file("status", "Tgid:\t5\n");
        last_born(&fake, 4);
        let mut table = Table::default();
        scan(&mut table, &fake).await;
        let old = Instant::now().checked_sub(YOUTH * 10);
        table.known.get_mut(&5).unwrap().first_seen = old;
        // Aside, so that its folder's inode is not given to the next.
        std::fs::rename(fake.path("proc/5"), fake.path("ended")).unwrap();
        fake.process(5, "sudo").file("status", "Tgid:\t5\n");
        last_born(&fake, 5);
        assert!(pids(&scan(&mut table, &fake).await).is_empty());
        fake.dd(5, "/dev/vg/a", "/dev/vg/b", 0);
        assert_eq!(pids(&scan(&mut table, &fake).await), [5]);
    }

    #[tokio::test]
    async fn between_two_lists_only_the_newborn_are_looked_for() {
        let fake = Fake::new();
        fake.process(2, "bash");
        last_born(&fake, 2);
        let mut table = Table::default();
        scan(&mut table, &fake).await;
        fake.dd(5, "/dev/vg/a", "/dev/vg/b", 0);
        fake.dd(6, "/dev/vg/a", "/dev/vg/c", 0);
        fake.process(5, "dd")
            .file("status", "Tgid:\t5\n")
            .arguments(&["dd", "if=/dev/vg/a", "of=/dev/vg/b"]);
        fake.write("proc/6/status", "Name:\tdd\nTgid:\t5\n");
        assert!(
            pids(&scan(&mut table, &fake).await).is_empty(),
            "no list was read"
        );
        last_born(&fake, 6);
        let scan_after = scan(&mut table, &fake).await;
        assert_eq!(pids(&scan_after), [5], "6 is a thread of it");
        assert_eq!(scan_after.alive.len(), 1);
        fake.end(5);
        assert!(scan(&mut table, &fake).await.alive.is_empty());
        assert_eq!(table.known.len(), 1, "who is gone is forgotten");
    }

    #[tokio::test]
    async fn all_are_listed_when_ids_begin_anew_and_when_too_many_were_born() {
        for last in [1, 100_000] {
            let fake = Fake::new();
            last_born(&fake, 2);
            let mut table = Table::default();
            scan(&mut table, &fake).await;
            fake.dd(50_000, "/dev/vg/a", "/dev/vg/b", 0);
            last_born(&fake, last);
            assert_eq!(pids(&scan(&mut table, &fake).await), [50_000], "{last}");
        }
    }

    #[tokio::test]
    async fn in_a_container_that_is_told_the_hosts_last_pid_a_dd_is_found_at_the_next_look() {
        let fake = Fake::new();
        for (pid, comm) in [(1, "init"), (240, "cinder-volume"), (300, "sudo")] {
            fake.process(pid, comm);
        }
        last_born(&fake, 3_155_001);
        let mut table = Table::default();
        scan(&mut table, &fake).await;
        fake.dd(301, "/dev/vg/a", "/dev/vg/b", 0);
        last_born(&fake, 3_155_004);
        assert_eq!(pids(&scan(&mut table, &fake).await), [301]);
        // One that was there before, and takes dd's name now.
        fake.dd(300, "/dev/vg/c", "/dev/vg/d", 0);
        assert_eq!(pids(&scan(&mut table, &fake).await), [300]);
        for pid in 302..310 {
            fake.dd(pid, "/dev/vg/a", "/dev/vg/b", 0);
            last_born(&fake, 3_155_004 + 3 * (pid - 301));
            assert_eq!(pids(&scan(&mut table, &fake).await), [pid]);
        }
    }

    #[tokio::test]
    async fn where_no_birth_has_proved_the_kernels_word_all_are_listed() {
        let fake = Fake::new();
        fake.process(2, "bash");
        last_born(&fake, 2);
        let mut table = Table::default();
        scan(&mut table, &fake).await;
        fake.dd(50, "/dev/vg/a", "/dev/vg/b", 0);
        last_born(&fake, 7);
        assert_eq!(pids(&scan(&mut table, &fake).await), [50]);
        fake.process(8, "bash").file("status", "Tgid:\t8\n");
        last_born(&fake, 8);
        scan(&mut table, &fake).await;
        fake.dd(60, "/dev/vg/a", "/dev/vg/b", 0);
        last_born(&fake, 9);
        assert!(
            pids(&scan(&mut table, &fake).await).is_empty(),
            "proved by now"
        );
    }

    #[tokio::test]
    async fn a_pid_given_away_is_another_dd() {
        let fake = Fake::new();
        fake.dd(7, "/dev/vg/a", "/dev/vg/b", 0);
        let mut table = Table::default();
        scan(&mut table, &fake).await;
        fake.dd(7, "/dev/vg/c", "/dev/vg/d", 0);
        fake.process(7, "dd")
            .start(500)
            .arguments(&["dd", "if=/dev/vg/c", "of=/dev/vg/d"]);
        let again = scan(&mut table, &fake).await;
        assert_eq!(again.found[0].id, ProcessId { start: 500, pid: 7 });
        assert_eq!(again.alive.len(), 1);
    }

    #[tokio::test]
    async fn a_dd_without_a_command_line_yet_is_looked_at_again() {
        let fake = Fake::new();
        fake.process(7, "dd").file("cmdline", "");
        let mut table = Table::default();
        assert!(pids(&scan(&mut table, &fake).await).is_empty());
        fake.dd(7, "/dev/vg/a", "/dev/vg/b", 0);
        assert_eq!(pids(&scan(&mut table, &fake).await), [7]);
    }

    #[tokio::test]
    async fn a_kernel_name_is_traced_when_its_link_comes_late() {
        let fake = Fake::new();
        fake.write("dev/sdb", "");
        fake.dd(7, "/dev/sdb", "/dev/sda", 0);
        let mut table = Table::default();
        assert!(!scan(&mut table, &fake).await.found[0].source.is_traced());
        fake.link(
            "dev/disk/by-path/ip-1:3260-iscsi-iqn:volume-1-lun-1",
            "../../sdb",
        );
        assert!(
            scan(&mut table, &fake).await.found[0]
                .source
                .names_volume("volume-1")
        );
        assert!(scan(&mut table, &fake).await.found.is_empty());
    }

    #[tokio::test]
    async fn hidden_processes_are_trouble() {
        let fake = Fake::new();
        let own = std::process::id();
        fake.write(
            &format!("proc/{own}/mountinfo"),
            "21 1 0:20 / /proc rw - proc proc rw,hidepid=2\n",
        );
        last_born(&fake, 7);
        let mut table = Table::default();
        let trouble = scan(&mut table, &fake).await.trouble;
        assert!(matches!(trouble, Some(ProgressError::Hidden { .. })));
        fake.process(1, "systemd");
        assert_eq!(scan(&mut table, &fake).await.trouble, None);
    }

    #[tokio::test]
    async fn a_missing_proc_is_an_error() {
        let fake = Fake::new();
        let mut roots = fake.roots();
        roots.proc = fake.path("nowhere");
        let error = Table::default()
            .scan(&Looks::new(&roots.proc), &roots)
            .await
            .unwrap_err();
        assert_eq!(error.path(), roots.proc);
    }
}
