//! Volume ids in the names that storage and its software give to disks. Pure.
//!
//! cinder names a volume by `volume_name_template`; what a vendor makes of that name differs: another
//! prefix, nothing between target and name, doubled dashes, capitals, an id without its dashes. The id's
//! 32 digits in their order stay, and two volumes never share them.

use std::path::Path;

use uuid::Uuid;

/// How long an id is.
pub(super) const ID: usize = uuid::fmt::Hyphenated::LENGTH;

/// Hexadecimal digits of each group of an id (RFC 9562, section 4).
const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];

/// A dash as udev and systemd escape it.
const ESCAPED_DASH: &str = "\\x2d";

/// How many characters may stand between two groups: LVM doubles dashes.
const SEPARATOR: usize = 2;

/// Words behind an id that mean something made from the volume: LVM's own layers, snapshots, partitions,
/// volumes put aside.
const DERIVED: &[&str] = &[
    "backup", "bak", "copy", "cow", "deleted", "old", "orig", "part", "real", "snap", "temp", "tmp",
];

/// The end of cinder's own `target_prefix`: what follows is a volume's name and nothing else.
const CINDERS_TARGET: &str = "org.openstack:";

/// An id, and what stands around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::progress) struct Mention<'a> {
    /// The id.
    pub id: Uuid,
    before: &'a str,
    after: &'a str,
}

impl Mention<'_> {
    /// Whether it is a word of its own, and no part of a longer number.
    pub(in crate::progress) fn is_whole(&self) -> bool {
        !self.before.ends_with(char::is_alphanumeric)
            && !self.after.starts_with(char::is_alphanumeric)
    }
}

/// Every id in `text`, however its groups are separated, at the borders of words or not.
pub(in crate::progress) fn mentions(text: &str) -> impl Iterator<Item = Mention<'_>> {
    (0..text.len()).filter_map(|start| mention_at(text, start))
}

fn mention_at(text: &str, start: usize) -> Option<Mention<'_>> {
    let mut rest = text.get(start..)?;
    let mut digits = String::with_capacity(32);
    let mut separator = None;
    for group in GROUPS {
        if !digits.is_empty() {
            let expected = *separator.get_or_insert_with(|| separator_of(rest));
            rest = rest.strip_prefix(expected)?;
        }
        let (word, after) = rest.split_at_checked(group)?;
        if !word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        digits.push_str(word);
        rest = after;
    }
    if rest
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_hexdigit())
    {
        return None;
    }
    let id = Uuid::try_parse(&digits).ok()?;
    Some(Mention {
        id,
        before: &text[..start],
        after: rest,
    })
}

/// What separates the groups of an id, told from the text behind its first.
fn separator_of(text: &str) -> &str {
    if text.starts_with(ESCAPED_DASH) {
        return ESCAPED_DASH;
    }
    let length = text
        .bytes()
        .take(SEPARATOR)
        .take_while(|&byte| byte.is_ascii_punctuation() && byte != b'/')
        .count();
    &text[..length]
}

/// What stands around the id in `volume_name_template`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    /// In front of the id.
    pub before: String,
    /// Behind it.
    pub after: String,
}

impl Template {
    /// Nothing for a template without an id.
    pub(in crate::progress) fn parse(template: &str) -> Option<Self> {
        let (before, after) = template.split_once("%s")?;
        Some(Self {
            before: before.to_owned(),
            after: after.to_owned(),
        })
    }

    /// Whether a name made by it says of itself that it is a volume's.
    pub(in crate::progress) fn speaks(&self) -> bool {
        let letter = |text: &str| text.contains(char::is_alphanumeric);
        letter(&self.before) || letter(&self.after)
    }

    /// Whether a mention is of a whole name by this template, whatever became of its dashes and capitals.
    fn made(&self, mention: &Mention<'_>) -> bool {
        folded(mention.before).ends_with(&folded(&self.before))
            && folded(mention.after).starts_with(&folded(&self.after))
    }

    /// The id of the volume that a link or a target is surely named after. An id alone may be the array's.
    pub(in crate::progress) fn id_in_link(&self, text: &str) -> Option<Uuid> {
        mentions(text)
            .find(|mention| {
                let cinders = mention
                    .before
                    .to_ascii_lowercase()
                    .ends_with(CINDERS_TARGET);
                if self.speaks() {
                    self.made(mention)
                } else {
                    cinders
                }
            })
            .map(|mention| mention.id)
    }

    /// Whether one part of a path, or the name of a logical volume, is that of the volume `id`: by the
    /// template, or by the id with something else around it. A name by the template with more behind it is
    /// another's, as is what is made from a volume.
    pub(in crate::progress) fn is_name_of(&self, part: &str, id: &Uuid) -> bool {
        mentions(part)
            .filter(|mention| mention.id == *id)
            .any(|mention| {
                mention.after.is_empty() || !self.made(&mention) && !is_derived(mention.after)
            })
    }
}

/// Small letters, and one dash for each run of dashes and underscores.
fn folded(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '-' | '_' if folded.ends_with('-') => {}
            '-' | '_' => folded.push('-'),
            letter => folded.push(letter.to_ascii_lowercase()),
        }
    }
    folded
}

fn is_derived(after: &str) -> bool {
    let word = after.trim_start_matches(|letter: char| letter.is_ascii_punctuation());
    let word = word.to_ascii_lowercase();
    word.len() == after.len() || DERIVED.iter().any(|derived| word.starts_with(derived))
}

/// Splits a device-mapper name of LVM's into volume group and volume: dashes inside either are doubled.
pub(super) fn split_mapped(name: &str) -> Option<(String, String)> {
    let mut parts = vec![String::new()];
    let mut letters = name.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == '-' && letters.next_if_eq(&'-').is_none() {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(letter);
        }
    }
    match <[String; 2]>::try_from(parts) {
        Ok([group, volume]) if !group.is_empty() && !volume.is_empty() => Some((group, volume)),
        _ => None,
    }
}

/// Whether `path` is a path of the volume called `name`.
pub(super) fn path_names(path: &str, name: &str) -> bool {
    if let Some(mapped) = path.strip_prefix("/dev/mapper/") {
        return mapped == name || split_mapped(mapped).is_some_and(|(_, volume)| volume == name);
    }
    if let Some(link) = path.strip_prefix("/dev/disk/") {
        return contains_word(link, name) && !is_partition(link);
    }
    Path::new(path)
        .components()
        .any(|component| component.as_os_str() == name)
}

/// The id in a path of a volume whose name is the id between `before` and `after`. Only what is written
/// as ids are counts, or every path would be a volume's where the template is nothing but the id.
pub(super) fn id_in(path: &str, before: &str, after: &str) -> Option<String> {
    let ids = |text: &str| -> Option<String> {
        text.match_indices(before).find_map(|(start, _)| {
            let id = text.get(start + before.len()..)?.get(..ID)?;
            let name = format!("{before}{id}{after}");
            (uuid::Uuid::try_parse(id).is_ok() && path_names(path, &name)).then(|| id.to_owned())
        })
    };
    match path.strip_prefix("/dev/mapper/").and_then(split_mapped) {
        Some((_, volume)) => ids(&volume),
        None => ids(path),
    }
}

/// Whether `name` stands in `text` with nothing before or after that would make it another name.
fn contains_word(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let after = text[start + name.len()..].chars().next();
        let inside = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
        !inside(before) && !inside(after)
    })
}

pub(super) fn is_partition(link: &str) -> bool {
    link.rsplit_once("-part").is_some_and(|(_, number)| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "b5012f4a-d256-45a1-8370-86a6dd7e6dde";

    fn id() -> Uuid {
        Uuid::try_parse(ID).unwrap()
    }

    fn bears(text: &str) -> bool {
        mentions(text).any(|mention| mention.id == id())
    }

    #[test]
    fn an_id_is_found_however_it_is_spelt() {
        for text in [
            ID.to_owned(),
            format!("openstack{ID}"),
            format!("node{ID}lun"),
            ID.to_uppercase(),
            ID.replace('-', "--"),
            ID.replace('-', "_"),
            ID.replace('-', "."),
            ID.replace('-', ":"),
            ID.replace('-', ""),
            ID.replace('-', ESCAPED_DASH),
            format!("36{}", ID.replace('-', "")),
            format!("größe{ID}卷"),
        ] {
            assert!(bears(&text), "{text}");
        }
        for text in [
            format!("{ID}0"),
            format!("{}0", ID.replace('-', "")),
            ID.replacen('-', "_", 1),
            ID.replace('-', "/"),
            ID.replace('-', "---"),
            ID.replace('b', "c"),
            ID[..35].to_owned(),
        ] {
            assert!(!bears(&text), "{text}");
        }
    }

    #[test]
    fn a_link_is_named_after_a_volume_only_where_its_name_says_so() {
        let dashed = Template::parse("volume-%s").unwrap();
        let bare = Template::parse("%s").unwrap();
        for (text, by_dashed, by_bare) in [
            (
                format!("iqn.2010-10.org.openstack:volume-{ID}-lun-1"),
                true,
                false,
            ),
            (
                format!("iqn.2010-10.org.openstackvolume-{ID}-lun-1"),
                true,
                false,
            ),
            (
                format!("iqn.x:VOLUME_{}", ID.to_uppercase().replace('-', "_")),
                true,
                false,
            ),
            (format!("iqn.2010-10.org.openstack:{ID}-lun-1"), false, true),
            (format!("iqn.1992-08.com.array:sn.{ID}-lun-1"), false, false),
            (format!("iqn.x:uuid-{ID}.77-lun-0"), false, false),
        ] {
            assert_eq!(dashed.id_in_link(&text).is_some(), by_dashed, "{text}");
            assert_eq!(bare.id_in_link(&text).is_some(), by_bare, "{text}");
        }
    }

    #[test]
    fn a_name_with_more_around_the_id_is_the_volumes_unless_it_contradicts() {
        let template = Template::parse("volume-%s").unwrap();
        for (part, of_volume) in [
            (format!("volume-{ID}"), true),
            (ID.to_owned(), true),
            (format!("CV_{ID}_00000"), true),
            (format!("cindervolume-{ID}"), true),
            (format!("OS-{}", ID.to_uppercase()), true),
            (format!("volume-{ID}-old"), false),
            (format!("volume-{ID}-2"), false),
            (format!("CV_{ID}-cow"), false),
            (format!("CV_{ID}.snap.1"), false),
            (format!("CV_{ID}p1"), false),
        ] {
            assert_eq!(template.is_name_of(&part, &id()), of_volume, "{part}");
        }
        let bare = Template::parse("%s").unwrap();
        assert!(bare.is_name_of(ID, &id()));
        assert!(!bare.is_name_of(&format!("{ID}-old"), &id()));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_search_panic(text in "[0-9a-f\\-_é/]{0,80}|.{0,80}") {
            for mention in mentions(&text) {
                prop_assert!(text.contains(mention.before) && text.contains(mention.after));
            }
        }

        #[test]
        fn whatever_stands_around_an_id_it_is_found(before in "[a-z:.\\-]{0,20}", after in "([g-z:.\\-].{0,20})?") {
            let text = format!("{before}{}{after}", ID);
            prop_assert!(bears(&text));
        }
    }

    proptest! {
        #[test]
        fn no_name_makes_the_matching_panic(path in ".{0,60}", name in ".{0,12}") {
            let _ = path_names(&path, &name);
            let _ = path_names(&format!("/dev/mapper/{path}"), &name);
            let _ = path_names(&format!("/dev/disk/by-path/{path}"), &name);
        }

        #[test]
        fn what_lvm_maps_is_split_back(group in "[a-z0-9_]+(-[a-z0-9]+){0,3}", volume in "[a-z0-9_]+(-[a-z0-9]+){0,5}") {
            let mapped = format!("{}-{}", group.replace('-', "--"), volume.replace('-', "--"));
            prop_assert_eq!(split_mapped(&mapped), Some((group, volume)));
        }
    }
}
