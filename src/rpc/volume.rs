//! The volume of a call: the little of cinder's volume object that progress needs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use serde::Serialize;
use serde::de::MapAccess;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::json::{Fields, Json, Wrapped, skip};
use super::request::MethodArgs;

/// The largest size whose bytes still fit into 64 bits; 16 EiB, beyond any block device.
const MAX_SIZE_GIB: u64 = (1 << 34) - 1;

/// The longest name of a file (`NAME_MAX` in `linux/limits.h`), which ids become part of.
const NAME_MAX: usize = 255;

/// The longest text of a driver's record that is read: cinder's columns have 255 characters, and some drivers
/// ask for more.
const RECORD_MAX: usize = 4096;

/// How many texts of a driver's record are read.
const RECORD_TEXTS: usize = 64;

/// A volume, as the caller knew it when it asked.
///
/// The names are cinder's (`cinder/objects/volume.py`). Secrets such as `provider_auth` are not
/// among the fields, so a volume may be logged, and given to a driver's command as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// The volume's id.
    pub id: String,
    /// The id in the volume's name on the backend where that is not `id`: after a migration the
    /// volume keeps its id but lives under the name that the copy was made with.
    pub name_id: Option<String>,
    /// The name on the backend, if the caller sent it (dictionaries may, objects do not).
    pub name: Option<String>,
    /// The size in GiB; never 0, and in bytes it fits into 64 bits.
    pub size: u64,
    /// `host@backend#pool`.
    pub host: Option<String>,
    /// `available`, `in-use`, `retyping`, ...
    pub status: Option<String>,
    /// `migrating`, `success`, ...
    pub migration_status: Option<String>,
    /// `attached`, `detached`, ...
    pub attach_status: Option<String>,
    /// Whether the object lists attachments, which Ocata's does not.
    pub has_attachments: bool,
    /// When the volume's row was last changed, in whole seconds; every release's object carries it, null
    /// until the first change. No business of a driver's command, as all that follows.
    #[serde(skip)]
    pub updated_at: Option<SystemTime>,
    /// Whether the object names a cluster of services, of which any may do the work.
    #[serde(skip)]
    pub clustered: bool,
    /// What the driver wrote down.
    #[serde(skip)]
    pub record: DriverRecord,
}

/// What the driver of a volume wrote down about it: `provider_location`, `provider_id` and the values of
/// `admin_metadata`. Not `metadata`, which users write. Its `Debug` shows none of it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DriverRecord(Vec<String>);

impl DriverRecord {
    /// Text by text.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    fn of(fields: &VolumeFields<'_>) -> Self {
        let own = [&fields.provider_location, &fields.provider_id];
        let admins = match &fields.admin_metadata {
            Some(Json::Object(AdminMetadata(texts))) => Some(texts.values()),
            _ => None,
        };
        let texts = own.into_iter().filter_map(|text| text.as_ref()?.as_text());
        let texts = texts.chain(admins.into_iter().flatten().filter_map(Option::as_deref));
        let short = texts.filter(|text| !text.is_empty() && text.len() <= RECORD_MAX);
        Self(short.take(RECORD_TEXTS).map(str::to_owned).collect())
    }
}

impl fmt::Debug for DriverRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} texts", self.0.len())
    }
}

/// Why a call's volume is no good, in words for the user who asked: these become the reason of
/// cinder's `InvalidVolume`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// There is no `volume` among the arguments.
    #[error("the call carries no volume")]
    Missing,
    /// It, or its `versioned_object.data`, is something else than an object.
    #[error("the volume is {0}, not an object")]
    NotAnObject(&'static str),
    /// An id that cannot be one.
    #[error("the volume's {field} is {found}; a volume's id is needed")]
    Id {
        /// Which of the ids.
        field: &'static str,
        /// What it is instead.
        found: &'static str,
    },
    /// A size from which no percentage can be made.
    #[error("the size of volume {id} is {found}; a whole number of GiB from 1 is needed")]
    Size {
        /// The volume's id.
        id: String,
        /// What it is instead.
        found: String,
    },
}

/// What a volume's fields say, before anything is made of it.
#[derive(Clone, Default, PartialEq)]
pub(super) struct VolumeFields<'a> {
    id: Option<Json<'a>>,
    own_name_id: Option<Json<'a>>,
    name_id: Option<Json<'a>>,
    name: Option<Json<'a>>,
    size: Option<Json<'a>>,
    host: Option<Json<'a>>,
    status: Option<Json<'a>>,
    migration_status: Option<Json<'a>>,
    attach_status: Option<Json<'a>>,
    updated_at: Option<Json<'a>>,
    cluster_name: Option<Json<'a>>,
    provider_location: Option<Json<'a>>,
    provider_id: Option<Json<'a>>,
    admin_metadata: Option<Json<'a, AdminMetadata<'a>>>,
    attachments: Option<Json<'a, Wrapped<'a, AttachmentFields<'a>>>>,
}

impl<'a> Fields<'a> for VolumeFields<'a> {
    fn take<A: MapAccess<'a>>(&mut self, key: &str, values: &mut A) -> Result<(), A::Error> {
        let field = match key {
            "id" => &mut self.id,
            "_name_id" => &mut self.own_name_id,
            "name_id" => &mut self.name_id,
            "name" => &mut self.name,
            "size" => &mut self.size,
            "host" => &mut self.host,
            "status" => &mut self.status,
            "migration_status" => &mut self.migration_status,
            "attach_status" => &mut self.attach_status,
            "updated_at" => &mut self.updated_at,
            "cluster_name" => &mut self.cluster_name,
            "provider_location" => &mut self.provider_location,
            "provider_id" => &mut self.provider_id,
            "admin_metadata" => {
                self.admin_metadata = Some(values.next_value()?);
                return Ok(());
            }
            "volume_attachment" => {
                self.attachments = Some(values.next_value()?);
                return Ok(());
            }
            _ => return skip(values),
        };
        *field = Some(values.next_value()?);
        Ok(())
    }
}

/// The texts of `admin_metadata`, in the order of their keys; `None` where there is none.
#[derive(Clone, Default, PartialEq)]
struct AdminMetadata<'a>(BTreeMap<String, Option<Cow<'a, str>>>);

impl<'a> Fields<'a> for AdminMetadata<'a> {
    fn take<A: MapAccess<'a>>(&mut self, key: &str, values: &mut A) -> Result<(), A::Error> {
        let text = match values.next_value::<Json<'a>>()? {
            Json::Text(text) => Some(text),
            _ => None,
        };
        self.0.insert(key.to_owned(), text);
        Ok(())
    }
}

/// Of a list of attachments, whether there are any.
#[derive(Clone, Default, PartialEq)]
struct AttachmentFields<'a> {
    objects: Option<Json<'a>>,
}

impl<'a> Fields<'a> for AttachmentFields<'a> {
    fn take<A: MapAccess<'a>>(&mut self, key: &str, values: &mut A) -> Result<(), A::Error> {
        if key != "objects" {
            return skip(values);
        }
        self.objects = Some(values.next_value()?);
        Ok(())
    }
}

impl Volume {
    /// Reads the argument `volume` of a call: a versioned object, as cinder sends it, or a plain
    /// dictionary. Fields that are not known here are ignored, and so are optional ones that are
    /// not text fit for a log.
    pub fn from_args(args: &MethodArgs<'_>) -> Result<Self, VolumeError> {
        let fields = match args.volume.as_ref().ok_or(VolumeError::Missing)? {
            Json::Object(volume) => volume.fields().map_err(VolumeError::NotAnObject)?,
            other => return Err(VolumeError::NotAnObject(other.kind())),
        };
        let id = required_id(fields.id.as_ref())?;
        let name_id = match optional_id(fields.own_name_id.as_ref(), "_name_id")? {
            Some(name_id) => Some(name_id),
            None => optional_id(fields.name_id.as_ref(), "name_id")?,
        };
        Ok(Self {
            size: size(fields.size.as_ref(), &id)?,
            // A dictionary made from cinder's model has name_id always, and mostly equal.
            name_id: name_id.filter(|name_id| *name_id != id),
            name: text(&fields.name).filter(|name| unfit_for_a_path(name).is_none()),
            host: text(&fields.host),
            status: text(&fields.status),
            migration_status: text(&fields.migration_status),
            attach_status: text(&fields.attach_status),
            has_attachments: fields.attachments.as_ref().is_some_and(has_attachments),
            updated_at: fields.updated_at.as_ref().and_then(moment),
            clustered: text(&fields.cluster_name).is_some_and(|name| !name.is_empty()),
            record: DriverRecord::of(fields),
            id,
        })
    }

    /// Whether the volume is attached to a server. Nova and qemu copy such a volume, not dd:
    /// cinder decides it by the attachments (`_migrate_volume_generic` in
    /// `cinder/volume/manager.py`), of which Ocata's object says no more than the two statuses.
    pub fn attached(&self) -> bool {
        self.attach_status.as_deref() == Some("attached")
            || self.status.as_deref() == Some("in-use")
            || self.has_attachments
    }

    /// Whether a migration goes on: `starting` is what cinder-api writes, `migrating` cinder-volume when
    /// it takes over (`migrate_volume` in `cinder/volume/api.py` and `manager.py`).
    pub fn migrating(&self) -> bool {
        matches!(
            self.migration_status.as_deref(),
            Some("starting" | "migrating")
        )
    }

    /// Whether the copy is made and cinder puts the new one in the place of the old
    /// (`migrate_volume_completion` in `cinder/volume/manager.py`).
    pub fn completing(&self) -> bool {
        self.migration_status.as_deref() == Some("completing")
    }

    /// `name_id`, where it differs, and `id`.
    pub fn ids(&self) -> Vec<String> {
        let ids = [self.name_id.clone(), Some(self.id.clone())];
        ids.into_iter().flatten().collect()
    }

    /// The size in bytes.
    pub fn bytes(&self) -> u64 {
        self.size << 30
    }
}

fn required_id(value: Option<&Json<'_>>) -> Result<String, VolumeError> {
    let missing = VolumeError::Id {
        field: "id",
        found: "missing or empty",
    };
    optional_id(value, "id")?.ok_or(missing)
}

/// An id that is absent, null or empty is none, as it is to cinder (`Volume.name_id`). One that is
/// something else than an id is an error: to ignore it could mean to answer for another volume.
fn optional_id(
    value: Option<&Json<'_>>,
    field: &'static str,
) -> Result<Option<String>, VolumeError> {
    let wrong = |found| Err(VolumeError::Id { field, found });
    match value {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Text(id)) if id.is_empty() => Ok(None),
        Some(Json::Text(id)) => match unfit_for_a_path(id) {
            None => Ok(Some(id.clone().into_owned())),
            Some(found) => wrong(found),
        },
        Some(other) => wrong(other.kind()),
    }
}

/// Ids and names are compared with names of files and written to logs. Nothing in them may lead
/// out of a directory or break a line.
fn unfit_for_a_path(name: &str) -> Option<&'static str> {
    match name {
        "" | "." | ".." => Some("no name of its own"),
        _ if name.len() > NAME_MAX => Some("longer than 255 bytes"),
        _ if name.contains('/') => Some("a text with a slash"),
        _ if name.contains(char::is_control) => Some("a text with control characters"),
        _ => None,
    }
}

fn text(value: &Option<Json<'_>>) -> Option<String> {
    let text = value.as_ref()?.as_text()?;
    let usable = text.len() <= NAME_MAX && !text.contains(char::is_control);
    usable.then(|| text.to_owned())
}

/// A number such as `10.0` is as whole as `10`; a boolean is no number, though Python has it so.
fn size(value: Option<&Json<'_>>, id: &str) -> Result<u64, VolumeError> {
    let found = match value {
        None => "missing".to_owned(),
        Some(Json::Number(number)) => {
            let whole = number.as_u64().or_else(|| {
                let float = number.as_f64()?;
                // Above the maximum the cast saturates, and the range refuses it.
                (float.fract() == 0.0).then_some(float as u64)
            });
            match whole {
                Some(size @ 1..=MAX_SIZE_GIB) => return Ok(size),
                _ => number.to_string(),
            }
        }
        Some(other) => other.kind().to_owned(),
    };
    Err(VolumeError::Size {
        id: id.to_owned(),
        found,
    })
}

/// A moment as oslo.versionedobjects writes it, in UTC and whole seconds.
fn moment(value: &Json<'_>) -> Option<SystemTime> {
    let moment = OffsetDateTime::parse(value.as_text()?, &Rfc3339).ok()?;
    (moment.unix_timestamp() > 0).then(|| moment.into())
}

/// A list of attachments is a versioned object with `objects`, or a plain list.
fn has_attachments(value: &Json<'_, Wrapped<'_, AttachmentFields<'_>>>) -> bool {
    let objects = match value {
        Json::List { is_empty } => return !is_empty,
        Json::Object(list) => list
            .fields()
            .ok()
            .and_then(|fields| fields.objects.as_ref()),
        _ => None,
    };
    matches!(objects, Some(Json::List { is_empty: false }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::captured;
    use super::*;

    const ID: &str = "b4d1c0de-0000-4000-8000-000000000001";

    fn read(volume: Value) -> Result<Volume, VolumeError> {
        let args = json!({"volume": volume}).to_string();
        Volume::from_args(&captured::args(&args))
    }

    fn with(field: &str, value: Value) -> Result<Volume, VolumeError> {
        let mut volume = json!({"id": ID, "size": 10});
        volume[field] = value;
        read(volume)
    }

    #[test]
    fn object_and_dictionary_read_the_same() {
        let fields = json!({
            "id": ID, "_name_id": "other", "size": 7, "host": "node1@lvm#lvm",
            "status": "available", "migration_status": "migrating", "attach_status": "detached",
            "provider_auth": "secret", "name": "volume-other",
        });
        let expected = Volume {
            id: ID.into(),
            name_id: Some("other".into()),
            name: Some("volume-other".into()),
            size: 7,
            host: Some("node1@lvm#lvm".into()),
            status: Some("available".into()),
            migration_status: Some("migrating".into()),
            attach_status: Some("detached".into()),
            has_attachments: false,
            updated_at: None,
            clustered: false,
            record: DriverRecord::default(),
        };
        assert_eq!(read(fields.clone()).unwrap(), expected);
        let object = json!({
            "versioned_object.name": "Volume",
            "versioned_object.version": "1.6",
            "versioned_object.data": fields,
        });
        assert_eq!(read(object).unwrap(), expected);
        assert!(!format!("{expected:?}").contains("secret"));
    }

    #[test]
    fn the_name_id_counts_only_where_it_differs() {
        let name_id = |volume: Value| read(volume).unwrap().name_id;
        assert_eq!(name_id(json!({"id": ID, "size": 1})), None);
        assert_eq!(
            name_id(json!({"id": ID, "size": 1, "_name_id": null})),
            None
        );
        assert_eq!(name_id(json!({"id": ID, "size": 1, "name_id": ID})), None);
        assert_eq!(name_id(json!({"id": ID, "size": 1, "_name_id": ""})), None);
        assert_eq!(
            name_id(json!({"id": ID, "size": 1, "name_id": "n"})),
            Some("n".into())
        );
        assert_eq!(
            name_id(json!({"id": ID, "size": 1, "_name_id": "m", "name_id": "n"})),
            Some("m".into())
        );
    }

    #[test]
    fn a_call_without_a_usable_volume_says_so() {
        assert_eq!(
            Volume::from_args(&MethodArgs::default())
                .unwrap_err()
                .to_string(),
            "the call carries no volume"
        );
        for (volume, text) in [
            (json!(null), "the volume is null, not an object"),
            (json!([1]), "the volume is a list, not an object"),
            (
                json!({"versioned_object.data": "x", "id": ID, "size": 1}),
                "the volume is a string, not an object",
            ),
        ] {
            assert_eq!(read(volume).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn ids_are_harmless_parts_of_paths() {
        for (id, found) in [
            (json!(null), "missing or empty"),
            (json!(5), "a number"),
            (json!(""), "missing or empty"),
            (json!(".."), "no name of its own"),
            (json!("../../etc/passwd"), "a text with a slash"),
            (json!("a\u{0}b"), "a text with control characters"),
            (json!("a\nb"), "a text with control characters"),
            (json!("x".repeat(256)), "longer than 255 bytes"),
        ] {
            let error = with("id", id.clone()).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("the volume's id is {found}; a volume's id is needed")
            );
            if found != "missing or empty" {
                for field in ["_name_id", "name_id"] {
                    let error = with(field, id.clone()).unwrap_err();
                    assert_eq!(error, VolumeError::Id { field, found });
                }
            }
        }
        assert!(with("id", json!("x".repeat(255))).is_ok());
        assert!(with("id", json!("größe ü 卷")).is_ok());
    }

    #[test]
    fn optional_texts_unfit_for_a_log_are_none() {
        for odd in [json!(5), json!("a\nb"), json!("x".repeat(300)), json!(null)] {
            for field in [
                "host",
                "status",
                "migration_status",
                "attach_status",
                "name",
            ] {
                let volume = with(field, odd.clone()).unwrap();
                assert_eq!(volume, with(field, json!(null)).unwrap());
            }
        }
        assert_eq!(with("name", json!("a/b")).unwrap().name, None);
    }

    #[test]
    fn a_size_is_a_whole_number_of_gib() {
        assert_eq!(with("size", json!(1)).unwrap().bytes(), 1 << 30);
        assert_eq!(with("size", json!(10.0)).unwrap().size, 10);
        let largest = with("size", json!(MAX_SIZE_GIB)).unwrap();
        assert_eq!(largest.bytes(), u64::MAX - ((1 << 30) - 1));
    }

    #[test]
    fn other_sizes_are_refused_by_name() {
        for (size, found) in [
            (json!(null), "null"),
            (json!("10"), "a string"),
            (json!(true), "a boolean"),
            (json!([10]), "a list"),
            (json!(0), "0"),
            (json!(-1), "-1"),
            (json!(0.0), "0.0"),
            (json!(-1.0), "-1.0"),
            (json!(1.5), "1.5"),
            (json!(MAX_SIZE_GIB + 1), "17179869184"),
            (json!(i64::MAX), "9223372036854775807"),
            (json!(u64::MAX), "18446744073709551615"),
            (json!(1e300), "1e+300"),
        ] {
            assert_eq!(
                with("size", size).unwrap_err().to_string(),
                format!(
                    "the size of volume {ID} is {found}; a whole number of GiB from 1 is needed"
                )
            );
        }
        assert_eq!(
            read(json!({"id": ID})).unwrap_err(),
            VolumeError::Size {
                id: ID.into(),
                found: "missing".into()
            }
        );
    }

    #[test]
    fn attached_by_any_of_the_three_signs() {
        assert!(!with("attach_status", json!("detached")).unwrap().attached());
        assert!(with("attach_status", json!("attached")).unwrap().attached());
        assert!(with("status", json!("in-use")).unwrap().attached());
        for (list, attached) in [
            (json!({"versioned_object.data": {"objects": [{}]}}), true),
            (json!([{}]), true),
            (json!({"versioned_object.data": {"objects": []}}), false),
            (json!({"versioned_object.data": {}}), false),
            (json!([]), false),
            (json!(null), false),
            (json!("x"), false),
        ] {
            let volume = with("volume_attachment", list.clone()).unwrap();
            assert_eq!(volume.attached(), attached, "{list}");
        }
    }

    #[test]
    fn a_migration_goes_on_from_its_start_until_it_completes() {
        for (status, migrating) in [
            (json!("starting"), true),
            (json!("migrating"), true),
            (json!("completing"), false),
            (json!("success"), false),
            (json!("error"), false),
            (json!(null), false),
        ] {
            let volume = with("migration_status", status.clone()).unwrap();
            assert_eq!(volume.migrating(), migrating, "{status}");
        }
    }

    #[test]
    fn when_the_row_was_changed_is_a_moment_or_nothing() {
        let at = |text: Value| with("updated_at", text).unwrap().updated_at;
        let moment = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_704_164_645);
        assert_eq!(at(json!("2024-01-02T03:04:05Z")), Some(moment));
        for odd in [
            json!(null),
            json!(5),
            json!("yesterday"),
            json!("1969-01-01T00:00:00Z"),
        ] {
            assert_eq!(at(odd), None);
        }
    }

    #[test]
    fn a_drivers_record_is_what_the_driver_wrote_and_no_user() {
        let volume = read(json!({
            "id": ID, "size": 1, "provider_location": "here", "provider_id": "HUSH",
            "admin_metadata": {"wwn": "6001", "odd": 5}, "metadata": {"a": "user's"},
            "provider_auth": "CHAP u p",
        }));
        let volume = volume.unwrap();
        let texts: Vec<&str> = volume.record.texts().collect();
        assert_eq!(texts, ["here", "HUSH", "6001"]);
        assert!(!format!("{volume:?}").contains("HUSH"));
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_harmless(
            id in "\\PC*|.{0,300}",
            size in prop_oneof![any::<f64>(), (0u64..1 << 35).prop_map(|size| size as f64)],
        ) {
            if let Ok(volume) = read(json!({"id": id, "size": size})) {
                prop_assert!(!volume.id.contains('/') && !volume.id.contains(char::is_control));
                prop_assert!(!volume.id.is_empty() && volume.id.len() <= 255);
                prop_assert_eq!(volume.size as f64, size);
                prop_assert_eq!(volume.bytes() >> 30, volume.size);
            }
        }
    }
}
