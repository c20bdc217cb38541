//! The volumes that calls and requests for migrations named: their records, and which are to be migrated. Pure rules.
//!
//! The volume of an unnamed disk is found in two ways:
//!
//! - Every call carries the volume's record, which may contain the disk's number.
//! - Beside cinder-volume every request for a migration passes through the daemon, with the volume's size. A copy of
//!   exactly that size that began after the request is the volume's, if no other copy and no other migration fits.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::copy_store::CopyRecord;
use crate::progress::Question;
use crate::progress::device::{Hardware, Identity};
use crate::progress::migration::{KnownBy, precedes};
use crate::progress::proc::process::{self, Ticks};

/// How many volumes are remembered at most. The oldest without an open migration is forgotten first.
const LIMIT: usize = 1024;

/// Seconds after the last call or request for which a migration counts as open. cinder-volume may start it hours later,
/// after others.
const OPEN: u64 = 24 * 3600;

/// A request for a migration, which passes through the daemon to cinder-volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationRequest {
    /// The volume's id.
    pub volume_id: String,
    /// `name_id`, if it differs, and `id`.
    pub ids: Vec<String>,
    /// The size in bytes.
    pub size: u64,
    /// The numbers of the volume's disk in the volume's record.
    pub record: Hardware,
    /// Whether the volume is attached to a server. Then nova copies it, and no dd is expected.
    pub attached: bool,
    /// The template of volumes' names, with `%s` for the id.
    pub volume_name_template: String,
}

/// One volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KnownVolume {
    id: String,
    ids: Vec<Uuid>,
    size: u64,
    record: Hardware,
    /// When a request for its migration last passed.
    requested: Option<Ticks>,
    /// Whether a migration by dd is not known to have ended.
    open: bool,
    /// When a call or a request last named the volume.
    heard: Ticks,
}

/// All such volumes. The one that was named longest ago is the first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::progress) struct KnownVolumes {
    volumes: Vec<KnownVolume>,
    /// The template of their names, from the last call or request.
    #[serde(skip)]
    template: String,
    /// Counts the changes that have to be saved.
    #[serde(skip)]
    changes: u64,
}

/// The copies that may be those of a request.
pub(in crate::progress) struct Eligible<'a, W> {
    /// The running copies of unnamed disks.
    pub unnamed: Vec<(W, &'a dyn CopyRecord)>,
    /// Finds the copies that are assigned to a volume's id, or have one of its ids in a name.
    pub of_volume: &'a CopiesOf<'a>,
}

/// From a volume's id, and all its ids, to its copies.
type CopiesOf<'a> = dyn Fn(&str, &[Uuid]) -> Vec<&'a dyn CopyRecord> + 'a;

impl KnownVolumes {
    /// Notes a request that passed at `at`.
    pub(in crate::progress) fn request(&mut self, request: MigrationRequest, at: Ticks) {
        // Requests are read on several threads, so an older one may arrive after a newer one.
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

    /// Notes the volume of a call.
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

    /// When a request for the volume's migration last passed through this daemon.
    pub(in crate::progress) fn requested(&self, volume_id: &str) -> Option<Ticks> {
        self.get(volume_id)?.requested
    }

    /// A number that changes when there is something new to save.
    pub(in crate::progress) fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether there is nothing to save.
    pub(in crate::progress) fn is_empty(&self) -> bool {
        self.volumes.is_empty()
    }

    /// At most [`LIMIT`] volumes, also from a state file that has more.
    pub(in crate::progress) fn bounded(mut self) -> Self {
        self.volumes.truncate(LIMIT);
        self
    }

    /// The numbers of the volume's disk, from the record of this call and from that of the last one.
    pub(in crate::progress) fn records<'a>(&'a self, question: &'a Question) -> Vec<&'a Hardware> {
        let own = self.get(&question.volume_id).map(|volume| &volume.record);
        [Some(&question.record), own]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Whether the volume's record has a number of `disk`. False if that record also has one of the `others`, or if the
    /// record of another volume has one of `disk`.
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

    /// Whether a name of the disk contains the id of one of the volumes.
    fn names_one(&self, disk: &Identity) -> bool {
        self.volumes
            .iter()
            .any(|volume| disk.bears_one_of(&volume.ids))
    }

    /// Whether a name of the disk contains the id of another volume than the question's.
    pub(in crate::progress) fn names_another(&self, question: &Question, disk: &Identity) -> bool {
        self.volumes
            .iter()
            .any(|volume| volume.id != question.volume_id && disk.bears_one_of(&volume.ids))
    }

    /// The copies that were assigned by a request and can be assigned no more, because another copy has appeared that
    /// only the same migration can have made.
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

    /// The unnamed copies that only one open migration can have made, if that migration can have made no other copy.
    /// Each with the volume of the migration.
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
            // Without a request it is unknown whether the copy began before or after the migration was asked for.
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

    /// Whether this is a running copy of an unknown volume.
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

    /// Whether `copy` is one of this volume's migration, by any rule.
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
