//! Copies that a process makes through open files.
//!
//! No command line shows them. When a call asks, the open files of the few processes are listed whose names are those
//! of programs that copy so; at most twice a second, however many calls ask. A copy that is found is remembered, and
//! from then on costs one small read.
//!
//! So that a copy is known before a call asks, a *sweep* searches cinder-volume's open files now and then for pairs of
//! files that are the ends of a copy.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::device::{self, Identity};
use super::proc::bounded::BoundedReads;
use super::proc::error::ProgressError;
use super::proc::process::{self, Pid, Ticks};
use super::verdict::CopyVerdict;
use super::{Question, Roots};

/// One copy, as it is remembered.
pub(super) mod copy;
/// Copies seen so far, and what they mean for the answer.
pub(super) mod history;
/// What a process has open, and how far it is with it.
pub(super) mod open_files;
/// Which two open files of a process are the ends of one copy.
mod pairs;

use copy::FileCopy;
use history::{FileCopies, Target, Wanted};
use open_files::{OpenFile, Place};
use pairs::pairs;

/// The least time between two listings of what is open.
const LISTING_GAP: Duration = Duration::from_millis(500);

/// How many processes' files are listed: a node has some dozens of Python programs.
const COPIERS_LIMIT: usize = 512;

/// Finds and follows copies through open files.
#[derive(Debug)]
pub(super) struct FileBased {
    roots: Roots,
    reads: BoundedReads,
    copies: Arc<Mutex<FileCopies>>,
    /// Held for the length of a listing, so that there is one at a time.
    listing: tokio::sync::Mutex<Option<Listing>>,
    /// The processes called cinder-volume at the last scan, and when the last sweep began.
    cinder_volumes: Mutex<(Vec<Pid>, Option<Instant>)>,
    /// Held for the length of a sweep, so that there is one at a time. Why the last one may not have seen every file.
    sweeping: tokio::sync::Mutex<Option<ProgressError>>,
}

/// The files open at the last listing.
#[derive(Debug, Clone)]
struct Listing {
    begun: Instant,
    files: Arc<Vec<OpenFile>>,
    /// Why it may not be all.
    trouble: Option<ProgressError>,
}

impl FileBased {
    pub(super) fn new(roots: Roots, reads: BoundedReads, copies: FileCopies) -> Self {
        Self {
            roots,
            reads,
            copies: Arc::new(Mutex::new(copies)),
            listing: tokio::sync::Mutex::default(),
            cinder_volumes: Mutex::default(),
            sweeping: tokio::sync::Mutex::default(),
        }
    }

    /// Takes in which processes are cinder-volume.
    pub(super) fn observe(&self, cinder_volumes: Vec<Pid>) {
        self.cinder_volumes.lock().0 = cinder_volumes;
    }

    /// Makes the next sweep due at once. A copy that this sweep does not see began after it.
    pub(super) fn sweep_soon(&self) {
        self.cinder_volumes.lock().1 = None;
    }

    /// Whether a cinder-volume runs, no sweep is under way, and the last one began at least `pause` ago. If so, a sweep
    /// counts as begun now.
    pub(super) fn is_due(&self, pause: Duration) -> bool {
        if self.sweeping.try_lock().is_err() {
            return false;
        }
        let mut cinder_volumes = self.cinder_volumes.lock();
        let (pids, begun) = &mut *cinder_volumes;
        let due = !pids.is_empty() && begun.is_none_or(|begun| begun.elapsed() >= pause);
        if due {
            *begun = Some(Instant::now());
        }
        due
    }

    /// Looks for copies between two files that cinder-volume has open. Returns why it may not have seen every file.
    pub(super) async fn sweep(&self) -> Option<ProgressError> {
        let mut told = self.sweeping.lock().await;
        let mut pids = self.cinder_volumes.lock().0.clone();
        pids.truncate(COPIERS_LIMIT);
        if pids.is_empty() {
            return None;
        }
        let (begun, tick) = (Instant::now(), process::now());
        let (files, trouble) = self.look_into(pids).await;
        let sizes = pairs(&files)
            .into_iter()
            .filter(|pair| !self.copies().knows_all_of(pair.destination))
            .map(async |pair| (pair, self.size(pair.source).await));
        for (pair, bytes) in join_all(sizes).await {
            self.copies().notice(pair, bytes, begun);
        }
        {
            let mut copies = self.copies();
            copies.suspect(&files, begun);
            if trouble.is_none() {
                copies.swept(tick);
            }
        }
        if trouble != *told {
            if let Some(error) = &trouble {
                tracing::warn!(
                    error = error.detail(),
                    "cannot see all that cinder-volume has open"
                );
            }
            told.clone_from(&trouble);
        }
        trouble
    }

    /// The size of a file. Its file system may hang. So the look counts as one at the file and not at the process,
    /// about which other calls ask.
    async fn size(&self, file: &OpenFile) -> Option<u64> {
        if let Some(bytes) = file.identity.bytes() {
            return Some(bytes);
        }
        let proc = self.roots.proc.clone();
        let (pid, fd) = (file.id.pid, file.fd);
        self.reads
            .at(Path::new(file.identity.path()), move || {
                Ok(open_files::size(&proc, pid, fd))
            })
            .await
            .ok()
            .flatten()
    }

    /// All copies seen so far.
    pub(super) fn copies(&self) -> MutexGuard<'_, FileCopies> {
        self.copies.lock()
    }

    /// The same, for the writer of the state file.
    pub(super) fn shared(&self) -> Arc<Mutex<FileCopies>> {
        Arc::clone(&self.copies)
    }

    /// The answer by a running copy that is known already.
    pub(super) async fn known(
        &self,
        question: &Question,
        requested: Option<Ticks>,
    ) -> Result<Option<CopyVerdict>, ProgressError> {
        let Some(copy) = self.copies().open_of(question) else {
            return Ok(None);
        };
        self.look(&copy).await?;
        let mut copies = self.copies();
        Ok(copies
            .open_of(question)
            .is_some()
            .then(|| copies.decide(question, requested)))
    }

    /// The answer after a listing of what the `copiers` have open.
    pub(super) async fn find(
        &self,
        question: &Question,
        requested: Option<Ticks>,
        copiers: Vec<Pid>,
    ) -> Result<CopyVerdict, ProgressError> {
        let wanted = Wanted {
            source: self.target(question.src_path.as_deref()).await?,
            destination: self.target(question.dest_path.as_deref()).await?,
        };
        let listing = self.list(copiers).await;
        if let Some(file) = history::best(&listing.files, question, &wanted) {
            // The listing may be half a second old: `add` leaves out what was seen to close since.
            let known = self.copies().add(file, listing.begun, question);
            if let Some(copy) = known {
                self.look(&copy).await?;
            }
        }
        let mut copies = self.copies();
        copies.suspect(&listing.files, listing.begun);
        match (copies.decide(question, requested), listing.trouble) {
            (CopyVerdict::Unseen(_), Some(trouble)) => Err(trouble),
            (verdict, _) => Ok(verdict),
        }
    }

    /// Looks again at every running copy.
    pub(super) async fn look_again(&self) {
        let open = self.copies().open();
        join_all(open.iter().map(|copy| self.look(copy))).await;
    }

    /// Looks at every running copy with two known ends; returns those that still run, each with the error of its look.
    pub(super) async fn running(&self) -> Vec<(FileCopy, Option<ProgressError>)> {
        let again = self
            .copies()
            .running()
            .into_iter()
            .map(async |copy| (self.look(&copy).await.err(), copy));
        let troubles = join_all(again).await;
        let running = self.copies().running().into_iter();
        running
            .map(|copy| {
                let looked = troubles.iter().find(|(_, other)| other.is_same_file(&copy));
                (
                    copy.clone(),
                    looked.and_then(|(trouble, _)| trouble.clone()),
                )
            })
            .collect()
    }

    async fn look(&self, copy: &FileCopy) -> Result<(), ProgressError> {
        let proc = self.roots.proc.clone();
        let (id, fd, mark) = (copy.file.id, copy.file.fd, copy.file.mark);
        let state = self
            .reads
            .one(id.pid, move |_| open_files::again(&proc, id, fd, mark))
            .await?;
        self.copies().note(copy, state);
        Ok(())
    }

    /// What the `copiers` have open, at most [`LISTING_GAP`] old.
    async fn list(&self, mut copiers: Vec<Pid>) -> Listing {
        let mut last = self.listing.lock().await;
        if let Some(listing) = &*last
            && listing.begun.elapsed() < LISTING_GAP
        {
            return listing.clone();
        }
        copiers.sort_unstable();
        copiers.truncate(COPIERS_LIMIT);
        let begun = Instant::now();
        let (files, trouble) = self.look_into(copiers).await;
        let told = last.as_ref().and_then(|listing| listing.trouble.as_ref());
        if let Some(error) = &trouble
            && told != Some(error)
        {
            tracing::warn!(error = error.detail(), "not every open file can be seen");
        }
        last.insert(Listing {
            begun,
            files: Arc::new(files),
            trouble,
        })
        .clone()
    }

    /// What these processes have open, and why it may not be all.
    async fn look_into(&self, pids: Vec<Pid>) -> (Vec<OpenFile>, Option<ProgressError>) {
        let roots = self.roots.clone();
        let (mut files, mut trouble) = (Vec::new(), None);
        let work = move |pid| {
            let files = open_files::of(&roots, pid)?;
            // Only where a file has no name: a process without open files is no sign of hidden links.
            let hidden = files
                .iter()
                .any(|file| file.identity.len() == 0)
                .then(|| open_files::links_are_hidden(&roots.proc, pid));
            Ok((files, hidden.flatten()))
        };
        let report = |_, seen: Result<(Vec<OpenFile>, _), _>| match seen {
            Ok((found, hidden)) => {
                files.extend(found);
                trouble = trouble.take().or(hidden);
            }
            Err(error) => trouble = trouble.take().or(Some(error)),
        };
        self.reads.each(pids, work, report).await;
        (files, trouble)
    }

    /// What a path of the call leads to. Its file system may hang, so the look counts as one at the path.
    async fn target(&self, path: Option<&Path>) -> Result<Option<Target>, ProgressError> {
        let Some(path) = path else { return Ok(None) };
        let roots = self.roots.clone();
        let text = path.to_string_lossy().into_owned();
        let target = self.reads.at(path, move || Ok(target(&roots, &text)));
        target.await.map(Some)
    }
}

fn target(roots: &Roots, path: &str) -> Target {
    let mut identity = Identity::of(roots, path);
    let below_dev = path
        .strip_prefix("/dev/")
        .map(|below| roots.dev.join(below));
    let real = below_dev.unwrap_or_else(|| PathBuf::from(path));
    if let Ok(straight) = fs::canonicalize(&real) {
        identity.add(straight.to_string_lossy().into_owned());
    }
    let place = fs::metadata(&real).ok().map(|metadata| Place {
        device: device::major_minor(metadata.dev()),
        inode: metadata.ino(),
    });
    Target { identity, place }
}
