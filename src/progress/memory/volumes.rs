//! Volumes that calls and requests named: what their records say, and which are to be migrated. Pure.
//!
//! An unnamed disk leads to its volume in two ways. The volume's record, which comes with every call, may hold the
//! disk's number. And beside cinder-volume every request for a migration passes through the daemon, with the
//! volume's size: a copy of exactly that size, begun after the request, is that volume's if this copy fits no other
//! open migration, and this migration no other copy.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::copy_store::CopyRecord;
use crate::progress::Question;
use crate::progress::device::{Hardware, Identity};
use crate::progress::migration::{KnownBy, precedes};
use crate::progress::proc::process::{self, Ticks};

/// How many volumes are remembered. Room is made by the oldest that neither migrates nor was requested to, else by the
/// oldest.
const LIMIT: usize = 1024;

/// Seconds for which a migration without further news counts as open. cinder-volume may keep it waiting behind others
/// for hours.
const OPEN: u64 = 24 * 3600;

/// A request for a migration, as it passed on its way to cinder-volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationRequest {
    /// The volume's id.
    pub volume_id: String,
    /// `name_id`, if it differs, and `id`.
    pub ids: Vec<String>,
    /// Bytes.
    pub size: u64,
    /// What the volume's record tells of its disk.
    pub record: Hardware,
    /// Whether the volume is attached to a server: nova copies it then, and no dd is expected.
    pub attached: bool,
    /// How volumes are named, with `%s` for the id.
    pub volume_name_template: String,
}

/// One volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KnownVolume {
    id: String,
    ids: Vec<Uuid>,
    size: u64,
    record: Hardware,
    /// When its migration was last asked for.
    requested: Option<Ticks>,
    /// Whether a migration by dd goes on, as far as is known.
    open: bool,
    /// When it was last heard of.
    heard: Ticks,
}

/// All such volumes, the one heard of longest ago first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::progress) struct KnownVolumes {
    volumes: Vec<KnownVolume>,
    /// How they are named, by the last call or request.
    #[serde(skip)]
    template: String,
    /// Counts the changes that are to be saved.
    #[serde(skip)]
    changes: u64,
}

/// The copies among which those of a request are looked for.
pub(in crate::progress) struct Eligible<'a, W> {
    /// Running copies of unnamed disks.
    pub unnamed: Vec<(W, &'a dyn CopyRecord)>,
    /// The copies attributed to a volume, or whose names hold one of its ids.
    pub of_volume: &'a CopiesOf<'a>,
}

/// From a volume's id, and all its ids, to its copies.
type CopiesOf<'a> = dyn Fn(&str, &[Uuid]) -> Vec<&'a dyn CopyRecord> + 'a;

impl KnownVolumes {
    /// Takes in a request that passed at `at`.
    pub(in crate::progress) fn request(&mut self, request: MigrationRequest, at: Ticks) {
        // Requests are read on several threads: an older one may arrive after a newer one.
        if self
            .requested(&request.volume_id)
            .is_some_and(|last| last > at)
        {
            return;
        }
        self.template = request.volume_name_template;
        self.put(KnownVolume {
            id: request.volume_id,
            ids: parsed(&request.ids),
            size: request.size,
            record: request.record,
            requested: Some(at),
            open: !request.attached,
            heard: at,
        });
    }

    /// Takes in what a call said of its volume.
    pub(in crate::progress) fn hear(&mut self, question: &Question, now: Ticks) {
        let known = self.get(&question.volume_id);
        if known.is_none() && !question.migrating {
            return;
        }
        let requested = known.and_then(|known| known.requested);
        self.template = question.template();
        self.put(KnownVolume {
            id: question.volume_id.clone(),
            ids: parsed(&question.ids),
            size: question.size,
            record: question.record.clone(),
            requested,
            open: question.migrating && !question.attached,
            heard: now,
        });
    }

    fn put(&mut self, volume: KnownVolume) {
        let place = self.volumes.iter().position(|known| known.id == volume.id);
        if let Some(place) = place {
            self.volumes.remove(place);
        }
        self.changes += 1;
        if self.volumes.len() >= LIMIT {
            let idle = |volume: &KnownVolume| !volume.open && volume.requested.is_none();
            let oldest = self.volumes.iter().position(idle).unwrap_or(0);
            self.volumes.remove(oldest);
        }
        self.volumes.push(volume);
    }

    fn get(&self, id: &str) -> Option<&KnownVolume> {
        self.volumes.iter().find(|volume| volume.id == id)
    }

    /// When the volume's migration was last requested, if that request passed through this daemon.
    pub(in crate::progress) fn requested(&self, volume_id: &str) -> Option<Ticks> {
        self.get(volume_id)?.requested
    }

    /// Another number when there is something new to save.
    pub(in crate::progress) fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether there is nothing to save.
    pub(in crate::progress) fn is_empty(&self) -> bool {
        self.volumes.is_empty()
    }

    /// The first [`LIMIT`] of them: a file may hold more.
    pub(in crate::progress) fn bounded(mut self) -> Self {
        self.volumes.truncate(LIMIT);
        self
    }

    /// What is known of the volume's disk by its records.
    pub(in crate::progress) fn records<'a>(&'a self, question: &'a Question) -> Vec<&'a Hardware> {
        let own = self.get(&question.volume_id).map(|volume| &volume.record);
        [Some(&question.record), own]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Whether the volume's record has a number of `disk` and of none of the `others`, and no other volume's record
    /// has a number of `disk`.
    pub(in crate::progress) fn tells_of<'a>(
        &self,
        question: &Question,
        disk: &Identity,
        others: impl IntoIterator<Item = &'a Identity>,
    ) -> bool {
        let records = self.records(question);
        let meets = |disk: &Identity| records.iter().any(|record| record.meets(disk.hardware()));
        let another = |other: &Identity| {
            meets(other) && !other.same_as(disk) && !other.hardware().meets(disk.hardware())
        };
        let elsewhere = |volume: &KnownVolume| {
            volume.id != question.volume_id && volume.record.meets(disk.hardware())
        };
        meets(disk) && !others.into_iter().any(another) && !self.volumes.iter().any(elsewhere)
    }

    /// Whether a name of the disk holds the id of a remembered volume.
    fn names_one(&self, disk: &Identity) -> bool {
        self.volumes
            .iter()
            .any(|volume| disk.bears_one_of(&volume.ids))
    }

    /// Whether a name of the disk holds the id of a remembered volume other than the one asked about.
    pub(in crate::progress) fn names_another(&self, question: &Question, disk: &Identity) -> bool {
        self.volumes
            .iter()
            .any(|volume| volume.id != question.volume_id && disk.bears_one_of(&volume.ids))
    }

    /// Copies attributed by a request that are doubtful again: a second unnamed copy fits the same migration, and
    /// fits no open migration that has no copy yet.
    pub(in crate::progress) fn doubtful<W: Copy>(
        &self,
        copies: &Eligible<W>,
        now: Ticks,
    ) -> Vec<W> {
        let waiting = self.waiting(copies, now);
        let copies = &copies.unnamed;
        let has_a_rival = |copy: &dyn CopyRecord| {
            let Some(volume) = copy.notes().volume.as_deref().and_then(|id| self.get(id)) else {
                return false;
            };
            copies.iter().any(|&(_, other)| {
                self.is_unnamed(other)
                    && volume.may_have_made(other)
                    && !waiting.iter().any(|volume| volume.may_have_made(other))
            })
        };
        let known = copies.iter().filter(|(_, copy)| {
            copy.runs() && copy.notes().known_by == Some(KnownBy::Request) && has_a_rival(*copy)
        });
        known.map(|&(which, _)| which).collect()
    }

    /// Each unnamed copy that fits exactly one open migration without a copy, if that migration fits no other unnamed
    /// copy and was requested before the copy began; with the migration's volume.
    pub(in crate::progress) fn assigned<W: Copy>(
        &self,
        copies: &Eligible<W>,
        now: Ticks,
    ) -> Vec<(W, String)> {
        let waiting = self.waiting(copies, now);
        let copies = &copies.unnamed;
        let only = |&(which, copy): &(W, &dyn CopyRecord)| {
            let mut makers = waiting.iter().filter(|volume| volume.may_have_made(copy));
            let maker = *makers.next()?;
            let may_be = copies
                .iter()
                .filter(|(_, other)| self.is_unnamed(*other) && maker.may_have_made(*other));
            // A migration known by a call alone may have begun its copy before or after that call.
            let began_since = maker.requested.is_some_and(|at| copy.began_since(at));
            let alone = makers.next().is_none() && may_be.count() == 1;
            (alone && began_since).then(|| (which, maker.id.clone()))
        };
        let unnamed = copies.iter().filter(|(_, copy)| self.is_unnamed(*copy));
        unnamed.filter_map(only).collect()
    }

    /// The open migrations without a copy.
    fn waiting<W>(&self, copies: &Eligible<W>, now: Ticks) -> Vec<&KnownVolume> {
        let sizes: HashSet<u64> = copies
            .unnamed
            .iter()
            .filter(|(_, copy)| copy.runs() && copy.source().is_some_and(Identity::is_unnamed))
            .filter_map(|(_, copy)| copy.bytes())
            .collect();
        let volumes = self.volumes.iter();
        let volumes = volumes.filter(|volume| sizes.contains(&volume.size));
        let has_a_copy = |volume: &KnownVolume| {
            let its_own = (copies.of_volume)(&volume.id, &volume.ids);
            its_own.into_iter().any(|copy| volume.has_made(copy))
        };
        volumes
            .filter(|volume| volume.is_open(now) && !has_a_copy(volume))
            .collect()
    }

    /// Whether this is a running copy that no name, record or request attributes to a volume.
    fn is_unnamed(&self, copy: &dyn CopyRecord) -> bool {
        let may_be_unnamed_volume =
            |disk: &Identity| disk.may_be_unnamed_volume(&self.template) && !self.names_one(disk);
        copy.copies()
            && copy.runs()
            && copy.notes().volume.is_none()
            && copy.source().is_some_and(may_be_unnamed_volume)
    }
}

fn parsed(ids: &[String]) -> Vec<Uuid> {
    ids.iter()
        .filter_map(|id| Uuid::try_parse(id).ok())
        .collect()
}

impl KnownVolume {
    fn is_open(&self, now: Ticks) -> bool {
        self.open && now.saturating_sub(self.heard) <= OPEN * process::ticks_per_second()
    }

    /// Whether the copy is this volume's, by any rule, and began after the request.
    fn has_made(&self, copy: &dyn CopyRecord) -> bool {
        let is_named = |disk: &Identity| disk.bears_one_of(&self.ids);
        let its_own =
            copy.notes().volume.as_deref() == Some(&self.id) || copy.source().is_some_and(is_named);
        copy.copies() && its_own && self.may_have_begun(copy)
    }

    fn may_have_begun(&self, copy: &dyn CopyRecord) -> bool {
        !precedes(copy.begun(), self.requested)
    }

    /// Whether the copy fits the migration: by its size, and by when it began.
    fn may_have_made(&self, copy: &dyn CopyRecord) -> bool {
        copy.bytes() == Some(self.size) && self.may_have_begun(copy)
    }
}
