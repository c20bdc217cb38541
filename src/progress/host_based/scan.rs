//! The processes of the node, looked at incrementally.
//!
//! A node has thousands of processes and at most a handful of dd. Listing them all each second would be
//! most of the daemon's work, so the list is read every now and then, and in between what was born since.
//! Processes are read when they are new, when they are dd, or when they are young, because a process
//! takes dd's name only when it calls exec, some time after it was born.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use self::cursor::{Cursor, IdMark};
use self::schedule::Schedule;
use super::operands::{Operands, Purpose};
use crate::progress::Roots;
use crate::progress::device::Identity;
use crate::progress::file_based::open_files;
use crate::progress::proc::bounded::{BoundedReads, PROC_ROOT_KEY};
use crate::progress::proc::error::ProgressError;
use crate::progress::proc::fdinfo;
use crate::progress::proc::new_pids;
use crate::progress::proc::process::{self, Pid, ProcessId};

/// Which process ids were given out since.
mod cursor;
/// When which process is looked at.
mod schedule;

/// How long after it was first seen a process is looked at in every scan. sudo, rootwrap and ionice
/// call exec within a second or two, on a slow node within ten. Afterwards it is looked at again whenever its age has
/// grown by about a third, for those that call exec late in life.
const NEW_PROCESS_WINDOW: Duration = Duration::from_secs(10);

/// The longest time between two looks at a process.
const SECOND_LOOK: Duration = Duration::from_secs(600);

/// How often all processes are listed, though the kernel tells who was born: for the sake of those that
/// came into the namespace with an id of somebody's choice, as from a checkpoint (`criu(8)`). Where the
/// kernel is short of memory it forgets the folders of all of them, and then each list costs as much as the
/// first.
const CENSUS: Duration = Duration::from_secs(600);

/// Processes older than the daemon do not count as new, except those with the last 256 ids: they may be about to call
/// exec.
const JUST_BORN: Pid = 256;

/// What a dd does: all that is known of it once it is found, but for names that are learnt later.
#[derive(Debug, Clone, PartialEq, Hash, Serialize, Deserialize)]
pub(in crate::progress) struct DdFacts {
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
    /// Offset in the source where the copy ends: `skip=` + `count=`, or the source's size if smaller; none if neither
    /// is known.
    pub bytes: Option<u64>,
    /// Where in its source and in its destination it begins.
    #[serde(default)]
    pub begin: Begin,
}

/// A dd that copies or wipes.
#[derive(Debug, Clone)]
pub(in crate::progress) struct FoundDd {
    pub dd: DdFacts,
    /// Where its destination was written at the time of the look; `None` when that could not be told.
    pub written: Option<fdinfo::Found>,
    /// When that was.
    pub at: Instant,
}

/// Where a dd begins that was told to skip some of its source, or of its destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    pub found: Vec<FoundDd>,
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
    known: HashMap<Pid, KnownProcess>,
    schedule: Schedule,
    /// Those with the name of programs that copy through open files.
    copiers: BTreeMap<Pid, Copier>,
    cursor: Option<Cursor>,
    /// Whether other people's processes are hidden.
    hidden: bool,
    /// Whether a process has appeared with an id that `/proc/loadavg` had announced. In a container that file may
    /// tell the host's last id, which says nothing of the ids here; all processes are listed until then.
    proved: bool,
}

/// Who is to be looked at.
enum PidListing {
    /// Every process, with the inode number of its folder, and whether there are others hidden.
    All(Vec<(Pid, u64)>, bool),
    /// Those born since; the others are known.
    Born(Vec<(Pid, u64)>),
}

#[derive(Debug)]
struct KnownProcess {
    inode: u64,
    /// `None` for who was there before us.
    first_seen: Option<Instant>,
    looked_at: Instant,
    kind: Kind,
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
    /// dd between exec and its command line, one that neither copies nor wipes, or somebody else's.
    Aside(ProcessId, Kind),
    Found(Box<FoundDd>),
}

impl KnownProcess {
    /// When it is to be looked at again; `None` where that is in every scan.
    fn due(&self) -> Option<Instant> {
        if self.kind != Kind::NotDd {
            return None;
        }
        // Next look when the age beyond the window has grown by a third.
        let pause = self.first_seen.map_or(SECOND_LOOK, |first_seen| {
            let age = self.looked_at.saturating_duration_since(first_seen);
            (age.saturating_sub(NEW_PROCESS_WINDOW) / 3).min(SECOND_LOOK)
        });
        Some(self.looked_at + pause)
    }
}

impl Table {
    /// Looks at all processes that may be, or may have become, dd.
    pub(in crate::progress) async fn scan(
        &mut self,
        reads: &BoundedReads,
        roots: &Roots,
    ) -> Result<Scan, ProgressError> {
        let begun = Instant::now();
        let (listing, mark) = self.list(reads, roots).await?;
        let listed = match listing {
            PidListing::All(..) => begun,
            PidListing::Born(_) => self.cursor.map_or(begun, |cursor| cursor.listed()),
        };
        self.meet(listing, mark, begun);
        self.cursor = mark.map(|mark| Cursor::after(self.cursor(), mark, listed));
        let mut scan = Scan {
            trouble: self.hidden.then(|| ProgressError::Hidden {
                path: roots.proc.clone(),
            }),
            ..Scan::default()
        };

        let due = self.take_due(begun);
        let understood: HashMap<Pid, ProcessId> = self
            .schedule
            .always()
            .filter_map(|pid| match self.known.get(&pid)?.kind {
                Kind::Dd(id) => Some((pid, id)),
                _ => None,
            })
            .collect();
        let roots = Arc::new(roots.clone());
        let work = move |pid| look(&roots, pid, understood.get(&pid).copied());
        reads
            .each(due, work, |pid, seen| {
                self.note(pid, seen, begun, &mut scan)
            })
            .await;
        scan.copiers = self.copiers.keys().copied().collect();
        let copiers = self.copiers.iter();
        scan.cinder_volumes = copiers
            .filter(|&(_, &copier)| copier == Copier::CinderVolume)
            .map(|(&pid, _)| pid)
            .collect();
        Ok(scan)
    }

    /// Since when those that are born are known; where processes are hidden all that are to be seen are listed,
    /// until none is hidden.
    fn cursor(&self) -> Option<Cursor> {
        self.cursor.filter(|_| !self.hidden)
    }

    /// Finds out who is there.
    async fn list(
        &mut self,
        reads: &BoundedReads,
        roots: &Roots,
    ) -> Result<(PidListing, Option<IdMark>), ProgressError> {
        let proc = roots.proc.clone();
        let cursor = self.cursor();
        let recent = self.recent(cursor);
        let (listing, mark) = reads
            .one(PROC_ROOT_KEY, move |_| list_pids(&proc, cursor, &recent))
            .await?;
        if let (PidListing::Born(born), Some(cursor), Some(mark)) = (&listing, cursor, mark) {
            let announced = |(pid, inode): &(Pid, u64)| {
                let known = self.known.get(pid);
                *pid > cursor.last() && known.is_none_or(|known| known.inode != *inode)
            };
            self.proved |= born.iter().any(announced);
            // As long as the announced ids are not known to be those of this /proc, all are listed when one was given
            // out.
            if !self.proved && cursor.before() != Some(mark.last) {
                let proc = roots.proc.clone();
                let listing = reads.one(PROC_ROOT_KEY, move |_| list_all(&proc)).await?;
                return Ok((listing, Some(mark)));
            }
        }
        Ok((listing, mark))
    }

    /// Makes the acquaintance of those who are there.
    fn meet(&mut self, listing: PidListing, mark: Option<IdMark>, begun: Instant) {
        match listing {
            PidListing::All(list, hidden) => {
                let present: HashSet<Pid> = list.iter().map(|&(pid, _)| pid).collect();
                let gone: Vec<Pid> = self.known.keys().copied().collect();
                for pid in gone.into_iter().filter(|pid| !present.contains(pid)) {
                    self.forget(pid);
                }
                let cursor = self.cursor();
                self.hidden = hidden;
                // Without the kernel's word, or with another kernel's, nobody is known to be old.
                let young = match (cursor, mark) {
                    (None, Some(mark)) => {
                        let last_born = mark.last.saturating_sub(JUST_BORN)..;
                        let is_there = list.iter().any(|(pid, _)| last_born.contains(pid));
                        if is_there { last_born } else { Pid::MIN.. }
                    }
                    _ => Pid::MIN..,
                };
                for (pid, inode) in list {
                    if let (Some(cursor), Some(mark)) = (cursor, mark)
                        && cursor.is_past(pid, mark)
                    {
                        self.forget_former(pid, inode);
                    }
                    let first_seen = young.contains(&pid).then_some(begun);
                    self.observe(pid, inode, begun, first_seen);
                }
            }
            PidListing::Born(born) => {
                for (pid, inode) in born {
                    self.forget_former(pid, inode);
                    self.observe(pid, inode, begun, Some(begun));
                    if let Some(known) = self.known.get_mut(&pid)
                        && known.first_seen.is_none()
                    {
                        known.first_seen = Some(begun);
                        self.schedule.arrange(pid, known.due());
                    }
                }
            }
        }
    }

    /// Those among the last born who were seen already, with the inode numbers of their folders.
    fn recent(&self, cursor: Option<Cursor>) -> HashMap<Pid, u64> {
        let ids = cursor.and_then(|cursor| Some(cursor.before()?..=cursor.last()));
        ids.into_iter()
            .flatten()
            .take(new_pids::COUNT_LIMIT as usize)
            .filter_map(|pid| Some((pid, self.known.get(&pid)?.inode)))
            .collect()
    }

    /// Who is to be looked at now.
    fn take_due(&mut self, now: Instant) -> Vec<Pid> {
        let known = &self.known;
        self.schedule.take_due(now, |pid, at| {
            let known = known.get(&pid);
            known.and_then(KnownProcess::due) == Some(at)
        })
    }

    fn forget(&mut self, pid: Pid) {
        self.known.remove(&pid);
        self.schedule.forget(pid);
        self.copiers.remove(&pid);
    }

    /// Forgets the one that had this id before its present owner was born, and ended unseen.
    fn forget_former(&mut self, pid: Pid, inode: u64) {
        let former = self.known.get(&pid);
        if former.is_some_and(|former| former.inode != inode) {
            self.forget(pid);
        }
    }

    /// Registers a process, if it is a new one.
    ///
    /// Another inode number means another process, or that the kernel has dropped the folder from its
    /// memory for a while: it is looked at, but not taken for young.
    fn observe(&mut self, pid: Pid, inode: u64, now: Instant, first_seen: Option<Instant>) {
        let known = self.known.entry(pid).or_insert_with(|| {
            self.schedule.arrange(pid, None);
            KnownProcess {
                inode,
                first_seen,
                looked_at: now,
                kind: Kind::Open,
            }
        });
        if known.inode != inode {
            known.inode = inode;
            known.kind = Kind::Open;
            self.schedule.arrange(pid, None);
            self.copiers.remove(&pid);
        }
    }

    fn note(&mut self, pid: Pid, seen: Result<Seen, ProgressError>, now: Instant, scan: &mut Scan) {
        let Some(known) = self.known.get_mut(&pid) else {
            return;
        };
        known.looked_at = now;
        match &seen {
            Ok(Seen::NotDd { copier }) if *copier != Copier::No => {
                self.copiers.insert(pid, *copier);
            }
            Ok(_) => {
                self.copiers.remove(&pid);
            }
            Err(_) => {}
        }
        match seen {
            Ok(Seen::Gone) => {
                self.forget(pid);
                return;
            }
            Ok(Seen::NotDd { .. }) => known.kind = Kind::NotDd,
            Ok(Seen::Unchanged(id)) => {
                scan.alive.insert(id);
            }
            Ok(Seen::Aside(id, kind)) => {
                if known.kind != kind {
                    tracing::debug!(
                        pid,
                        "a dd that neither copies nor wipes a volume of cinder's"
                    );
                }
                known.kind = kind;
                scan.alive.insert(id);
            }
            Ok(Seen::Found(found)) => {
                let dd = &found.dd;
                let volume = match dd.purpose {
                    Purpose::Wipe => &dd.destination,
                    Purpose::Copy | Purpose::Other => &dd.source,
                };
                known.kind = if volume.is_resolved() {
                    Kind::Dd(dd.id)
                } else {
                    Kind::Open
                };
                scan.alive.insert(dd.id);
                scan.found.push(*found);
            }
            Err(error) => {
                scan.unsure.insert(pid);
                // A known dd cannot be the dd of a volume that has none so far. A wrapper such as sudo may have
                // become one: it is looked at in each scan until a look succeeds.
                if !matches!(known.kind, Kind::Dd(_)) {
                    known.kind = Kind::Open;
                    scan.trouble.get_or_insert(error);
                }
            }
        }
        self.schedule.arrange(pid, known.due());
    }
}

/// Lists all processes, or only those born since `cursor` where the kernel tells who they are.
fn list_pids(
    proc: &Path,
    cursor: Option<Cursor>,
    recent: &HashMap<Pid, u64>,
) -> Result<(PidListing, Option<IdMark>), ProgressError> {
    // Before the list is read: who is born meanwhile is on the next one if not on this.
    let mark = new_pids::last_pid(proc).map(IdMark::now);
    if let (Some(cursor), Some(mark)) = (cursor, mark)
        && cursor.listed().elapsed() < CENSUS
        && let Some(before) = cursor.before()
        && let Some(born) = new_pids::between(proc, before, mark.last, recent)
    {
        return Ok((PidListing::Born(born), Some(mark)));
    }
    Ok((list_all(proc)?, mark))
}

fn list_all(proc: &Path) -> Result<PidListing, ProgressError> {
    let list = process::list(proc)?;
    let hidden = list.iter().all(|&(pid, _)| pid != 1) && process::hides_others(proc);
    Ok(PidListing::All(list, hidden))
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
    // Before its command line, which somebody might have arranged to hang.
    match process::uids(&roots.proc, pid)? {
        None => return Ok(Seen::Gone),
        Some(uids) if !roots.users.include(uids) => return Ok(Seen::Aside(id, Kind::Dd(id))),
        Some(_) => {}
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
    let dd = DdFacts {
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
    };
    Ok(Seen::Found(Box::new(FoundDd { dd, written, at })))
}

#[cfg(test)]
mod tests;
