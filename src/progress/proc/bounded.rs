//! Blocking reads on other threads, so that one that hangs costs a bounded wait and a bounded number of threads.
//!
//! A thread that hangs in the kernel cannot be stopped. It is left behind: its process is remembered as
//! hanging and is not looked at again until the read has returned, and at most [`HANGING_LIMIT`] such
//! threads exist. They belong to tokio's blocking pool, which keeps one for the next look. A runtime waits
//! for them when it is dropped, so its owner has to let them go (`shutdown_background`).

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::error::ProgressError;
use super::process::Pid;

/// How long one look may take. A read under /proc takes microseconds, or hangs.
pub(super) const LOOK_LIMIT: Duration = Duration::from_secs(1);

/// How long each further look of a round may take once one of them hangs: where a file system is gone, every copy on it
/// hangs, and pids later in the list must not wait [`LOOK_LIMIT`] for each.
const NEXT_LIMIT: Duration = Duration::from_millis(50);

/// How many threads share the rest of a round once one of them hangs: a hundred hanging processes then take little
/// longer than one, and a question about another process still gets an answer.
const LANES: usize = 32;

/// How many threads may hang at once, more than copies run at once; each holds only a stack.
const HANGING_LIMIT: usize = 128;

/// How many results are handed over at once: waking the receiver for each would cost more than most looks.
const HANDFUL: usize = 64;

/// Stands for `/proc` itself, where a pid is expected: listing it is bounded like a look at one process.
pub(in crate::progress) const PROC_ROOT_KEY: Pid = 0;

/// Runs looks and remembers which processes hang. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::progress) struct BoundedReads {
    proc: PathBuf,
    /// The path that is looked at, where it is not a process.
    path: Option<PathBuf>,
    /// How many threads hang on a process.
    hanging: Arc<Mutex<HashMap<Pid, usize>>>,
}

impl BoundedReads {
    pub(in crate::progress) fn new(proc: &Path) -> Self {
        Self {
            proc: proc.to_owned(),
            path: None,
            hanging: Arc::default(),
        }
    }

    /// Looks at what a path leads to, whose file system may hang. A path that hangs is remembered like a process.
    pub(in crate::progress) async fn at<T, W>(
        &self,
        path: &Path,
        work: W,
    ) -> Result<T, ProgressError>
    where
        T: Send + 'static,
        W: Fn() -> Result<T, ProgressError> + Send + Sync + 'static,
    {
        let reads = Self {
            path: Some(path.to_owned()),
            ..self.clone()
        };
        reads.one(key(path), move |_| work()).await
    }

    /// Looks at one process. Dropping the future leaves the thread to finish alone.
    pub(in crate::progress) async fn one<T, W>(&self, pid: Pid, work: W) -> Result<T, ProgressError>
    where
        T: Send + 'static,
        W: Fn(Pid) -> Result<T, ProgressError> + Send + Sync + 'static,
    {
        let mut outcome = None;
        self.each(vec![pid], work, |_, result| outcome = Some(result))
            .await;
        outcome.unwrap_or_else(|| Err(self.timed_out(pid)))
    }

    /// Looks at one process after the other and reports each; one that hangs is reported as such
    /// and the rest go on without it, on several threads, because where one hangs there may be many.
    pub(in crate::progress) async fn each<T, W>(
        &self,
        pids: Vec<Pid>,
        work: W,
        mut report: impl FnMut(Pid, Result<T, ProgressError>),
    ) where
        T: Send + 'static,
        W: Fn(Pid) -> Result<T, ProgressError> + Send + Sync + 'static,
    {
        let work = Arc::new(work);
        let mut rest: Vec<Pid> = Vec::with_capacity(pids.len());
        for pid in pids {
            if self.hanging.lock().contains_key(&pid) {
                report(pid, Err(self.timed_out(pid)));
            } else {
                rest.push(pid);
            }
        }
        let (mut lanes, mut limit) = (1, LOOK_LIMIT);
        while !rest.is_empty() {
            let hanging: usize = self.hanging.lock().values().sum();
            if hanging >= HANGING_LIMIT {
                let path = self.proc.clone();
                let busy = ProgressError::Busy { path, hanging };
                rest.iter().for_each(|&pid| report(pid, Err(busy.clone())));
                return;
            }
            let length = rest.len().div_ceil(lanes.min(HANGING_LIMIT - hanging));
            let batches = rest
                .chunks(length)
                .map(|some| self.collect(self.start(some.to_vec(), Arc::clone(&work)), limit));
            let mut left = Vec::new();
            for (results, behind) in join_all(batches).await {
                results
                    .into_iter()
                    .for_each(|(pid, result)| report(pid, result));
                left.extend(behind);
            }
            rest = left;
            (lanes, limit) = (LANES, NEXT_LIMIT);
        }
    }

    /// Takes results until the thread ends or hangs; returns them, and the pids behind the one that hangs.
    async fn collect<T>(
        &self,
        mut batch: Batch<T>,
        limit: Duration,
    ) -> (Vec<(Pid, Result<T, ProgressError>)>, Vec<Pid>) {
        let mut seen = Vec::with_capacity(batch.pids.len());
        let mut patience = limit;
        loop {
            let _ = tokio::time::timeout(patience, batch.shared.ready.notified()).await;
            let (results, over, silence) = batch.shared.take();
            for result in results {
                if let Some(&pid) = batch.pids.get(batch.done) {
                    seen.push((pid, result));
                }
                batch.done += 1;
            }
            let Some(&pid) = batch.pids.get(batch.done) else {
                return (seen, Vec::new());
            };
            patience = limit.saturating_sub(silence);
            if over {
                seen.push((pid, Err(self.broken(pid))));
            } else if patience.is_zero() {
                self.complain(pid, limit);
                seen.push((pid, Err(self.timed_out(pid))));
            } else {
                continue;
            }
            let behind = batch.pids.iter().skip(batch.done + 1);
            return (seen, behind.copied().collect());
        }
    }

    /// Begins to look at `pids` in order, on another thread.
    fn start<T, W>(&self, pids: Vec<Pid>, work: Arc<W>) -> Batch<T>
    where
        T: Send + 'static,
        W: Fn(Pid) -> Result<T, ProgressError> + Send + Sync + 'static,
    {
        let shared = Arc::new(Shared::default());
        let batch = Batch {
            pids: pids.clone(),
            done: 0,
            shared: Arc::clone(&shared),
            hanging: Arc::clone(&self.hanging),
        };
        let hanging = Arc::clone(&self.hanging);
        // Also when the thread panics, and when it never runs because the runtime is shutting down.
        let mut end = ReadEnd {
            shared,
            hanging,
            looking_at: None,
        };
        tokio::task::spawn_blocking(move || {
            for pid in pids {
                end.looking_at = Some(pid);
                let result = work(pid);
                if !end.shared.give(result) {
                    return;
                }
                end.looking_at = None;
            }
        });
        batch
    }

    fn path(&self, pid: Pid) -> PathBuf {
        match (&self.path, pid) {
            (Some(path), _) => path.clone(),
            (None, PROC_ROOT_KEY) => self.proc.clone(),
            (None, pid) => self.proc.join(pid.to_string()),
        }
    }

    /// Logs which look hangs.
    fn complain(&self, pid: Pid, limit: Duration) {
        let path = self.path(pid);
        let path = path.display();
        match (&self.path, pid) {
            (Some(_), _) => tracing::warn!(%path, ?limit, "a look at this file hangs"),
            (None, PROC_ROOT_KEY) => tracing::warn!(%path, ?limit, "listing the processes hangs"),
            (None, pid) => tracing::warn!(pid, ?limit, "a read about this process hangs"),
        }
    }

    /// With the same limit whichever was applied, so that the same trouble is not logged anew.
    fn timed_out(&self, pid: Pid) -> ProgressError {
        ProgressError::TimedOut {
            path: self.path(pid),
            limit: LOOK_LIMIT,
        }
    }

    fn broken(&self, pid: Pid) -> ProgressError {
        ProgressError::Io {
            path: self.path(pid),
            kind: std::io::ErrorKind::Other,
            cause: "the reading thread ended early".to_owned(),
        }
    }
}

/// A running thread's results. Dropped early, by a time limit or with a caller who has gone away, it
/// leaves the process the thread is at marked as hanging; the thread takes the mark off when it returns.
struct Batch<T> {
    pids: Vec<Pid>,
    done: usize,
    shared: Arc<Shared<T>>,
    hanging: Arc<Mutex<HashMap<Pid, usize>>>,
}

/// What a thread and the receiver of its results share.
struct Shared<T> {
    results: Mutex<Results<T>>,
    /// Whether a handful is there, or the last.
    ready: Notify,
}

struct Results<T> {
    waiting: Vec<Result<T, ProgressError>>,
    /// When the thread handed over its last result.
    moved: Instant,
    /// The thread has come to its end.
    over: bool,
    /// No receiver waits any more. Set under the same lock as results, so that "came back" and "given up
    /// on" cannot both happen.
    abandoned: bool,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self {
            results: Mutex::new(Results {
                waiting: Vec::new(),
                moved: Instant::now(),
                over: false,
                abandoned: false,
            }),
            ready: Notify::new(),
        }
    }
}

impl<T> Shared<T> {
    /// Hands over a result; false when nobody waits for it any more.
    fn give(&self, result: Result<T, ProgressError>) -> bool {
        let mut results = self.results.lock();
        if results.abandoned {
            return false;
        }
        results.waiting.push(result);
        results.moved = Instant::now();
        if results.waiting.len() >= HANDFUL {
            self.ready.notify_one();
        }
        true
    }

    /// The results so far, whether the thread has ended, and how long ago it handed over the last one.
    fn take(&self) -> (Vec<Result<T, ProgressError>>, bool, Duration) {
        let mut results = self.results.lock();
        let silence = results.moved.elapsed();
        (std::mem::take(&mut results.waiting), results.over, silence)
    }
}

/// Dropped at the end of a thread, whether it has finished, panicked, or returned when nobody waited any more.
struct ReadEnd<T> {
    shared: Arc<Shared<T>>,
    hanging: Arc<Mutex<HashMap<Pid, usize>>>,
    /// The process it has begun to look at.
    looking_at: Option<Pid>,
}

impl<T> Drop for ReadEnd<T> {
    fn drop(&mut self) {
        let mut results = self.shared.results.lock();
        results.over = true;
        if let (true, Some(pid)) = (results.abandoned, self.looking_at) {
            release(&mut self.hanging.lock(), pid);
        }
        drop(results);
        self.shared.ready.notify_one();
    }
}

impl<T> Drop for Batch<T> {
    fn drop(&mut self) {
        let mut results = self.shared.results.lock();
        results.abandoned = true;
        let at = self.done + results.waiting.len();
        if let (false, Some(&pid)) = (results.over, self.pids.get(at)) {
            *self.hanging.lock().entry(pid).or_default() += 1;
        }
    }
}

/// Stands for a path where a process id is expected: never a pid, which are above 0.
fn key(path: &Path) -> Pid {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    -((hasher.finish() % 0x4000_0000) as Pid) - 1
}

fn release(hanging: &mut HashMap<Pid, usize>, pid: Pid) {
    if let Some(count) = hanging.get_mut(&pid) {
        *count -= 1;
        if *count == 0 {
            hanging.remove(&pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc as blocking;

    #[tokio::test]
    async fn one_that_hangs_is_left_behind_and_remembered_until_it_returns() {
        let reads = BoundedReads::new(Path::new("/proc"));
        let (release, wait) = blocking::channel::<()>();
        let wait = Mutex::new(wait);
        let mut seen = Vec::new();
        reads
            .each(
                vec![1, 2, 3],
                move |pid| {
                    if pid == 2 {
                        let _ = wait.lock().recv();
                    }
                    Ok(pid)
                },
                |pid, result| seen.push((pid, result.is_ok())),
            )
            .await;
        assert_eq!(seen, [(1, true), (2, false), (3, true)]);
        // Without a second wait for the same process: it is not looked at.
        let asked_again = reads.one(2, |_| -> Result<(), _> { panic!("looked at again") });
        assert!(matches!(
            asked_again.await,
            Err(ProgressError::TimedOut { .. })
        ));

        release.send(()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while reads.one(2, Ok).await.is_err() {
            assert!(Instant::now() < deadline, "never looked at again");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn many_that_hang_are_given_up_side_by_side_and_the_rest_is_seen() {
        let reads = BoundedReads::new(Path::new("/proc"));
        let (release, wait) = blocking::channel::<()>();
        let wait = Mutex::new(wait);
        let hanging = Arc::clone(&reads.hanging);
        // How many hang that nobody has given up yet, at most at any time; one after the other, it is one.
        let side_by_side = Arc::new(Mutex::new((0, 0)));
        let counted = Arc::clone(&side_by_side);
        let work = move |pid| {
            if pid <= 100 {
                let given_up: usize = hanging.lock().values().sum();
                let (inside, most) = &mut *counted.lock();
                *inside += 1;
                *most = (*most).max(*inside - given_up.min(*inside));
            }
            if pid <= 100 {
                // Comes back when the other end is dropped.
                let _ = wait.lock().recv();
            }
            Ok(pid)
        };
        let mut seen = Vec::new();
        reads
            .each((1..=101).collect(), work, |pid, result| {
                seen.push((pid, result.is_ok()));
            })
            .await;
        seen.sort_unstable();
        let pids: Vec<Pid> = seen.iter().map(|(pid, _)| *pid).collect();
        assert_eq!(pids, (1..=101).collect::<Vec<_>>());
        assert!(seen.iter().all(|&(pid, is_ok)| pid == 101 || !is_ok));
        let (_, most) = *side_by_side.lock();
        assert!(most > 1, "{most}");
        // Where the machine is slow it was taken for one that hangs, for a moment.
        let deadline = Instant::now() + Duration::from_secs(60);
        while reads.one(101, Ok).await.is_err() {
            assert!(Instant::now() < deadline, "never seen");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(release);
    }

    #[tokio::test]
    async fn a_look_whose_caller_went_away_is_remembered_too() {
        let reads = BoundedReads::new(Path::new("/proc"));
        let (release, wait) = blocking::channel::<()>();
        let wait = Mutex::new(wait);
        let look = reads.one(2, move |pid| {
            let _ = wait.lock().recv();
            Ok(pid)
        });
        assert!(
            tokio::time::timeout(Duration::from_millis(50), look)
                .await
                .is_err()
        );
        assert!(reads.hanging.lock().contains_key(&2));
        release.send(()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !reads.hanging.lock().is_empty() {
            assert!(Instant::now() < deadline, "never forgotten");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn one_that_panics_after_it_was_given_up_is_looked_at_again() {
        let reads = BoundedReads::new(Path::new("/proc"));
        let (let_go, wait) = blocking::channel::<()>();
        let wait = Mutex::new(wait);
        let look = reads.one(2, move |_| -> Result<(), _> {
            let _ = wait.lock().recv();
            panic!("torn");
        });
        let given_up = tokio::time::timeout(Duration::from_millis(50), look).await;
        assert!(given_up.is_err());
        assert!(reads.hanging.lock().contains_key(&2));
        drop(let_go);
        let deadline = Instant::now() + Duration::from_secs(60);
        while reads.one(2, Ok).await.is_err() {
            assert!(Instant::now() < deadline, "never looked at again");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn hanging_threads_are_bounded() {
        let reads = BoundedReads::new(Path::new("/proc"));
        for pid in 0..HANGING_LIMIT as Pid {
            *reads.hanging.lock().entry(pid).or_default() += 1;
        }
        assert!(matches!(
            reads.one(500, Ok).await,
            Err(ProgressError::Busy {
                hanging: HANGING_LIMIT,
                ..
            })
        ));
    }

    #[tokio::test]
    async fn a_look_that_panics_is_an_error_of_its_process_alone() {
        let reads = BoundedReads::new(Path::new("/proc"));
        let mut seen = Vec::new();
        reads
            .each(
                vec![1, 2],
                |pid| if pid == 1 { panic!("torn") } else { Ok(pid) },
                |pid, result| seen.push((pid, result.is_ok())),
            )
            .await;
        assert_eq!(seen, [(1, false), (2, true)]);
    }
}
