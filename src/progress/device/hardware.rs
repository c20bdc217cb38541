//! A disk's own identifiers (VPD page 83), and those in cinder's records. Pure.
//!
//! A disk behind Fibre Channel, or one of many behind one iSCSI target, bears no volume's name. But it has a
//! world-wide unique number, and most drivers write that number, or target and logical unit, into the volume's
//! record.

use serde::{Deserialize, Serialize};

use super::names::{Mention, mentions};

/// The fewest hexadecimal digits of a world-wide number (NAA and EUI-64 have 16).
const DIGITS: usize = 16;

/// How many numbers and units of one disk or record are kept.
const LIMIT: usize = 16;

/// The designators of VPD page 83 (SPC-5, 7.7.6): of the logical unit itself, by EUI-64, NAA or a SCSI name.
const LOGICAL_UNIT: u8 = 0;
const EUI64: u8 = 2;
const NAA: u8 = 3;
const SCSI_NAME: u8 = 8;

/// World-wide numbers, and logical units of iSCSI targets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hardware {
    /// World-wide numbers: lower-case hexadecimal digits, without `0x`, `naa.`, `eui.`.
    numbers: Vec<String>,
    /// iSCSI targets, each with a logical unit.
    units: Vec<(String, u64)>,
}

impl Hardware {
    /// The numbers and units in the texts of a volume's record: `provider_location`, `provider_id`, `admin_metadata`.
    #[must_use]
    pub fn of_record<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut hardware = Self::default();
        for text in texts {
            hardware.add_numbers(text);
            hardware.add_portal(text);
        }
        hardware
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.numbers.is_empty() && self.units.is_empty()
    }

    /// World-wide numbers, as lower-case hexadecimal digits.
    pub(in crate::progress) fn numbers(&self) -> &[String] {
        &self.numbers
    }

    /// iSCSI targets, each with a logical unit.
    pub(in crate::progress) fn units(&self) -> &[(String, u64)] {
        &self.units
    }

    /// Whether both have a number or a unit in common, and so are one disk.
    pub(in crate::progress) fn meets(&self, other: &Self) -> bool {
        self.numbers.iter().any(|one| other.numbers.contains(one))
            || self.units.iter().any(|one| other.units.contains(one))
    }

    /// Adds what another look found.
    pub(in crate::progress) fn learn(&mut self, later: Self) {
        later
            .numbers
            .into_iter()
            .for_each(|number| self.number(number));
        later
            .units
            .into_iter()
            .for_each(|(target, unit)| self.unit(&target, unit));
    }

    /// Adds every whole number of 16 hexadecimal digits or more in `text`.
    pub(in crate::progress) fn add_numbers(&mut self, text: &str) {
        let text = text.to_ascii_lowercase();
        for word in text.split(|letter: char| !letter.is_ascii_alphanumeric()) {
            let digits = word.strip_prefix("0x").unwrap_or(word);
            if digits.len() < DIGITS || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                continue;
            }
            // scsi_id writes the kind of a number in front of it: 3 for NAA, 2 for EUI-64.
            if digits.len() % DIGITS == 1 && digits.starts_with(['2', '3']) {
                self.number(digits[1..].to_owned());
            } else {
                self.number(digits.to_owned());
            }
        }
        for mention in mentions(&text).filter(Mention::is_whole) {
            self.number(mention.id.simple().to_string());
        }
    }

    /// Adds a logical unit of an iSCSI target.
    pub(in crate::progress) fn unit(&mut self, target: &str, unit: u64) {
        let unit = (target.to_ascii_lowercase(), unit);
        if self.units.len() < LIMIT && !self.units.contains(&unit) {
            self.units.push(unit);
        }
    }

    /// Adds target and unit of `<address>:<port>,<group> <target> <unit>`, as drivers for iSCSI write
    /// `provider_location`. Several portals are separated by semicolons.
    fn add_portal(&mut self, text: &str) {
        let mut words = text.split_whitespace();
        while let Some(word) = words.next() {
            if is_target(word)
                && let Some(unit) = words.clone().next().and_then(|unit| unit.parse().ok())
            {
                self.unit(word, unit);
            }
        }
    }

    /// Adds target and unit from the name of a link below `/dev/disk/by-path`.
    pub(in crate::progress) fn add_link(&mut self, link: &str) {
        let Some((_, rest)) = link.split_once("-iscsi-") else {
            return;
        };
        if let Some((target, unit)) = rest.rsplit_once("-lun-")
            && let Some(unit) = logical_unit(unit)
        {
            self.unit(target, unit);
        }
    }

    /// Adds the numbers in VPD page 83, which sysfs shows in binary. Only designators of the logical unit itself count:
    /// those of an array's ports are the same for all its disks.
    pub(in crate::progress) fn add_page83(&mut self, page: &[u8]) {
        let Some((header, mut rest)) = page.split_at_checked(4) else {
            return;
        };
        if header[1] != 0x83 {
            return;
        }
        while let Some((head, body)) = rest.split_at_checked(4) {
            let Some((designator, after)) = body.split_at_checked(usize::from(head[3])) else {
                return;
            };
            rest = after;
            let association = (head[1] >> 4) & 0b11;
            if association != LOGICAL_UNIT {
                continue;
            }
            match head[1] & 0xf {
                EUI64 | NAA => {
                    let digits = designator.iter().map(|byte| format!("{byte:02x}"));
                    self.add_numbers(&digits.collect::<String>());
                }
                SCSI_NAME => {
                    let name = String::from_utf8_lossy(designator);
                    self.add_numbers(name.trim_end_matches('\0'));
                }
                _ => {}
            }
        }
    }

    fn number(&mut self, number: String) {
        // A number of identical digits means that the device has none.
        let alike = number.bytes().all(|digit| number.as_bytes()[0] == digit);
        if !alike && self.numbers.len() < LIMIT && !self.numbers.contains(&number) {
            self.numbers.push(number);
        }
    }
}

/// Whether a word is the name of an iSCSI target (RFC 3720, 3.2.6.3).
fn is_target(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    ["iqn.", "eui.", "naa."]
        .iter()
        .any(|kind| word.starts_with(kind))
}

/// A unit as udev writes it: a number, above 255 a hexadecimal one of 16 digits.
fn logical_unit(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        // Flat addressing of SAM: the number stands in the first two bytes, below the method's two bits.
        Some(digits) => u64::from_str_radix(digits, 16)
            .ok()
            .map(|unit| (unit >> 48) & 0x3fff),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NAA_NUMBER: &str = "60060e8010049cfd0050060e00000001";

    fn disk(text: &str) -> Hardware {
        let mut hardware = Hardware::default();
        hardware.add_numbers(text);
        hardware
    }

    fn record(text: &str) -> Hardware {
        Hardware::of_record([text])
    }

    #[test]
    fn a_number_is_the_same_however_it_is_written() {
        for text in [
            NAA_NUMBER.to_owned(),
            NAA_NUMBER.to_uppercase(),
            format!("0x{NAA_NUMBER}"),
            format!("naa.{NAA_NUMBER}"),
            format!("mpath-3{NAA_NUMBER}"),
            format!("scsi-3{NAA_NUMBER}"),
            format!("wwn-0x{NAA_NUMBER}"),
            format!(r#"{{"lun_wwn": "{NAA_NUMBER}", "id": 7}}"#),
        ] {
            assert!(
                record(&text).meets(&disk(&format!("naa.{NAA_NUMBER}"))),
                "{text}"
            );
        }
        let eui = record("eui.0025388B91B2C3D4");
        assert!(eui.meets(&disk("nvme-eui.0025388b91b2c3d4")));
        let nguid = "6e756d67-7569-6400-1234-567890abcdef";
        assert!(record(nguid).meets(&disk("eui.6e756d67756964001234567890abcdef")));
    }

    #[test]
    fn only_whole_numbers_of_sixteen_digits_or_more_count() {
        let disk = disk(&format!("naa.{NAA_NUMBER}"));
        for text in [
            &NAA_NUMBER[..31],
            &NAA_NUMBER[1..],
            &NAA_NUMBER[..16],
            &format!("{NAA_NUMBER}00"),
            "lun 7",
        ] {
            assert!(!record(text).meets(&disk), "{text}");
        }
        assert!(record("0000000000000000 ffffffffffffffff").is_empty());
        assert!(record("60060e80100").is_empty());
    }

    #[test]
    fn a_unit_is_known_by_its_target_and_its_number() {
        let location = record("10.0.2.15:3260,2 iqn.2010-10.org.openstack:all 7");
        let link = |link: &str| {
            let mut hardware = Hardware::default();
            hardware.add_link(link);
            hardware
        };
        let by_path = "ip-10.0.2.15:3260-iscsi-iqn.2010-10.org.openstack:all-lun-";
        assert!(location.meets(&link(&format!("{by_path}7"))));
        assert!(!location.meets(&link(&format!("{by_path}8"))));
        assert!(!location.meets(&link(&format!("{by_path}7-part1"))));
        let far = record("10.0.2.15:3260,1 iqn.2010-10.org.openstack:all 300");
        assert!(far.meets(&link(&format!("{by_path}0x412c000000000000"))));
    }

    #[test]
    fn of_page_83_only_the_logical_units_own_designators_count() {
        let naa: Vec<u8> = (0..32)
            .step_by(2)
            .map(|at| u8::from_str_radix(&NAA_NUMBER[at..at + 2], 16).unwrap())
            .collect();
        let page = |association: u8| {
            let mut page = vec![0, 0x83, 0, 20, 1, (association << 4) | NAA, 0, 16];
            page.extend(&naa);
            page
        };
        let read = |page: &[u8]| {
            let mut hardware = Hardware::default();
            hardware.add_page83(page);
            hardware
        };
        assert!(read(&page(0)).meets(&record(NAA_NUMBER)));
        assert!(read(&page(1)).is_empty(), "a port of the array");
        assert!(read(&page(0)[..20]).is_empty(), "torn");
    }

    proptest! {
        #[test]
        fn no_page_makes_the_reader_panic(page in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut hardware = Hardware::default();
            hardware.add_page83(&page);
            let mut whole = vec![0, 0x83];
            whole.extend(page);
            hardware.add_page83(&whole);
        }

        #[test]
        fn no_record_makes_the_reader_panic(text in ".{0,60}|[0-9a-fx. ]{0,80}") {
            let mut hardware = Hardware::of_record([text.as_str()]);
            hardware.add_link(&text);
        }
    }
}
