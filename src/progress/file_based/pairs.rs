//! Which two open files of a process are the ends of one copy. Pure.
//!
//! One end alone proves nothing: cinder-volume also reads a volume to upload it as an image, and writes
//! one to fill it with an image. A copy reads one volume and writes another, in step.

use std::cmp::Reverse;
use std::collections::HashSet;

use super::open_files::OpenFile;

/// How far one end may be ahead of the other. cinder copies in pieces of 4 MiB, so the ends are that far
/// apart; a few times as much leaves room for buffers, and none for unrelated files.
const APART: u64 = 64 << 20;

/// How many files of one kind are looked at in one process.
const LIMIT: usize = 256;

/// A copy through open files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair<'a> {
    /// What is read.
    pub source: &'a OpenFile,
    /// What is written.
    pub destination: &'a OpenFile,
}

/// Every pair among the files of some processes, those of the oldest process first.
///
/// A file is opened at position 0, so one that is past it has been moved. A child that inherited its parent's
/// files shows the same pair: it counts once, as that of the parent, who closes it last.
pub(in crate::progress) fn pairs(files: &[OpenFile]) -> Vec<Pair<'_>> {
    let may_be =
        |file: &&OpenFile| file.moves && file.position > 0 && file.identity.looks_like_a_volume();
    let mut processes: Vec<_> = files.iter().map(|file| file.id).collect();
    processes.sort_unstable();
    processes.dedup();
    let mut known = HashSet::new();
    let mut pairs = Vec::new();
    for id in processes {
        let own = || files.iter().filter(|file| file.id == id).filter(may_be);
        let sources = own().filter(|file| file.reads && !file.writes).take(LIMIT);
        let destinations: Vec<_> = own().filter(|file| file.writes).take(LIMIT).collect();
        let mut all: Vec<Pair<'_>> = sources
            .flat_map(|source| {
                let pair = move |&destination| Pair {
                    source,
                    destination,
                };
                destinations.iter().map(pair)
            })
            .filter(|pair| pair.apart() <= APART && !pair.is_one_file())
            .collect();
        // Of two copies at once, the ends that are nearest to each other belong together; where that does
        // not tell, those that were opened one after the other.
        all.sort_by_key(|pair| (pair.apart(), pair.opened_apart(), Reverse(pair.source.fd)));
        let mut taken = HashSet::new();
        for pair in all {
            let (source, destination) = (pair.source, pair.destination);
            if taken.contains(&source.fd) || taken.contains(&destination.fd) {
                continue;
            }
            taken.extend([source.fd, destination.fd]);
            // Older kernels say so little of a file that only its path tells it from others.
            let ends = [source, destination].map(|file| (file.fd, file.mark, file.identity.path()));
            if known.insert(ends) {
                pairs.push(pair);
            }
        }
    }
    pairs
}

impl Pair<'_> {
    fn apart(&self) -> u64 {
        self.source.position.abs_diff(self.destination.position)
    }

    fn opened_apart(&self) -> u32 {
        self.source.fd.abs_diff(self.destination.fd)
    }

    fn is_one_file(&self) -> bool {
        let (source, destination) = (self.source, self.destination);
        source.identity.same_as(&destination.identity)
            || source.place.is_some() && source.place == destination.place
    }
}
