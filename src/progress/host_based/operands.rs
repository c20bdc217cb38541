//! What dd was told to do, from its command line.
//!
//! Only processes whose `comm` is `dd` come this far. That covers GNU dd, uutils' dd and busybox
//! called through its link. `busybox dd …`, spelt out, has the comm `busybox`: cinder runs `dd` by
//! name and never so, and accepting it would mean reading the command lines of other programs.

use serde::{Deserialize, Serialize};

/// What a dd is for, as far as its command line tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(in crate::progress) enum Purpose {
    /// Reads something and writes it somewhere: may be a volume's copy.
    Copy,
    /// Overwrites its destination with zeroes, as cinder does with a volume it deletes.
    Wipe,
    /// cinder's probes, copies to nowhere, standard input and output.
    Other,
}

/// The operands that matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Operands {
    /// `if=`
    pub source: Option<String>,
    /// `of=`
    pub destination: Option<String>,
    /// `count=`, as it stands.
    count: Option<u64>,
    /// The bytes `count=` amounts to.
    pub bytes: Option<u64>,
    /// Where in its source it begins, in bytes, by `skip=`.
    pub skip: u64,
    /// Where in its destination it begins, in bytes, by `seek=`.
    pub seek: u64,
    /// Bytes of one write.
    pub block: u64,
}

/// Every operand that takes a value.
const OPERANDS: &[&str] = &[
    "bs", "cbs", "conv", "count", "ibs", "if", "iflag", "iseek", "obs", "of", "oflag", "oseek",
    "seek", "skip", "status",
];

/// How long a path may be, the zero at its end included (`linux/limits.h`).
const PATH_MAX: usize = 4096;

/// dd's block size when none is given.
const DEFAULT_BLOCK: u64 = 512;

impl Operands {
    /// Reads the arguments after the program's name; where one is given twice the last wins, as in dd.
    ///
    /// busybox cuts its own arguments at the `=` while it reads them, and the kernel shows what is left:
    /// `if`, `/dev/sdb`, `of`, … No dd takes a bare `if`, so the two spellings cannot be confused.
    pub(in crate::progress) fn parse(arguments: &[String]) -> Self {
        let (mut source, mut destination) = (None, None);
        let (mut count, mut skip, mut seek) = (None, None, None);
        let (mut both, mut input, mut output) = (None, None, None);
        let mut flags = Vec::new();
        let mut arguments = arguments.iter().skip(1);
        while let Some(argument) = arguments.next() {
            let (key, value) = match argument.split_once('=') {
                Some(operand) => operand,
                None if OPERANDS.contains(&argument.as_str()) => match arguments.next() {
                    Some(value) => (argument.as_str(), value.as_str()),
                    None => break,
                },
                None => continue,
            };
            match key {
                "if" => source = Some(value.to_owned()),
                "of" => destination = Some(value.to_owned()),
                "count" => count = Amount::parse(value),
                "skip" | "iseek" => skip = Amount::parse(value),
                "seek" | "oseek" => seek = Amount::parse(value),
                "bs" => both = number(value),
                "ibs" => input = number(value),
                "obs" => output = number(value),
                "iflag" | "oflag" => flags.extend(value.split(',')),
                _ => {}
            }
        }
        let read_block = both.or(input).unwrap_or(DEFAULT_BLOCK);
        let write_block = both.or(output).unwrap_or(DEFAULT_BLOCK);
        let bytes = |amount: Amount, flag, block| amount.bytes(flags.contains(&flag), block);
        Self {
            source,
            destination,
            count: count.map(|count| count.number),
            bytes: count.map(|count| bytes(count, "count_bytes", read_block)),
            skip: skip.map_or(0, |skip| bytes(skip, "skip_bytes", read_block)),
            seek: seek.map_or(0, |seek| bytes(seek, "seek_bytes", write_block)),
            block: write_block,
        }
    }

    /// What this dd is for.
    pub(in crate::progress) fn purpose(&self) -> Purpose {
        let (Some(source), Some(destination)) = (&self.source, &self.destination) else {
            return Purpose::Other;
        };
        // Before a copy cinder tries its flags on the same if= and of= with count=0.
        if self.count == Some(0) || leads_nowhere(destination) || source == destination {
            return Purpose::Other;
        }
        // No file can be opened by such a name, so it is not worth remembering either.
        if source.len().max(destination.len()) >= PATH_MAX {
            return Purpose::Other;
        }
        if source == "/dev/zero" {
            Purpose::Wipe
        } else if leads_nowhere(source) {
            Purpose::Other
        } else {
            Purpose::Copy
        }
    }
}

/// A number of blocks, or of bytes.
#[derive(Debug, Clone, Copy)]
struct Amount {
    number: u64,
    in_bytes: bool,
}

impl Amount {
    /// A number that ends in `B` is one of bytes (GNU dd since 9.1).
    fn parse(text: &str) -> Option<Self> {
        Some(Self {
            number: number(text)?,
            in_bytes: text.ends_with('B'),
        })
    }

    fn bytes(self, in_bytes: bool, block: u64) -> u64 {
        if in_bytes || self.in_bytes {
            self.number
        } else {
            self.number.saturating_mul(block)
        }
    }
}

/// Device nodes that hold no data.
fn leads_nowhere(path: &str) -> bool {
    path.strip_prefix("/dev/").is_some_and(|name| {
        matches!(
            name,
            "null" | "zero" | "full" | "random" | "urandom" | "stdin" | "stdout" | "stderr"
        ) || name.starts_with("fd/")
            || name.starts_with("tty")
            || name.starts_with("pts/")
    })
}

/// A number as dd reads it: factors joined by `x`, each with a suffix. `None` where dd would refuse it.
fn number(text: &str) -> Option<u64> {
    text.split('x').try_fold(1_u64, |product, factor| {
        let digits = factor.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, suffix) = factor.split_at(digits);
        let value: u64 = digits.parse().ok()?;
        let scaled = u128::from(value).checked_mul(scale(suffix)?)?;
        product.checked_mul(u64::try_from(scaled).ok()?)
    })
}

/// What a suffix multiplies by: `K`, `KiB` and `k` are 1024, `KB` and `kB` are 1000, and so on.
fn scale(suffix: &str) -> Option<u128> {
    match suffix {
        "" | "c" | "B" => return Some(1),
        "w" => return Some(2),
        "b" => return Some(512),
        _ => {}
    }
    let mut letters = suffix.chars();
    let power = "KMGTPE".find(letters.next()?.to_ascii_uppercase())? + 1;
    let base: u128 = match letters.as_str() {
        "" | "iB" => 1024,
        "B" => 1000,
        _ => return None,
    };
    base.checked_pow(u32::try_from(power).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(line: &str) -> Operands {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Operands::parse(&arguments)
    }

    #[test]
    fn cinders_copy_is_a_copy_of_so_many_bytes() {
        let copy = parse(
            "/bin/dd if=/dev/sdb of=/dev/sda count=1073741824 bs=1M iflag=count_bytes,direct oflag=direct",
        );
        assert_eq!(copy.purpose(), Purpose::Copy);
        assert_eq!(copy.source.as_deref(), Some("/dev/sdb"));
        assert_eq!(copy.destination.as_deref(), Some("/dev/sda"));
        assert_eq!(copy.bytes, Some(1 << 30));
        assert_eq!(copy.block, 1 << 20);
        assert_eq!(
            parse("dd if=/a of=/b count=1024 bs=1M").bytes,
            Some(1 << 30)
        );
    }

    #[test]
    fn cinders_probes_are_no_copies() {
        for line in [
            "/bin/dd count=0 if=/dev/sdb of=/dev/sda iflag=direct",
            "dd if=/dev/sdb of=/dev/null count=1",
            "dd count=0x100 if=/dev/sdb of=/dev/sda",
        ] {
            assert_eq!(parse(line).purpose(), Purpose::Other, "{line}");
        }
    }

    #[test]
    fn what_no_file_can_be_called_is_not_remembered() {
        let long = |length| format!("dd if=/{} of=/b", "a".repeat(length));
        assert_eq!(parse(&long(PATH_MAX - 2)).purpose(), Purpose::Copy);
        assert_eq!(parse(&long(PATH_MAX - 1)).purpose(), Purpose::Other);
    }

    #[test]
    fn wiping_is_not_copying() {
        let wipe = "/bin/dd if=/dev/zero of=/dev/mapper/vg-volume--1 count=1073741824 bs=1M iflag=count_bytes";
        assert_eq!(parse(wipe).purpose(), Purpose::Wipe);
        assert_eq!(
            parse("dd if=/dev/zero of=/dev/null").purpose(),
            Purpose::Other
        );
        assert_eq!(
            parse("dd if=/dev/urandom of=/dev/sda").purpose(),
            Purpose::Other
        );
    }

    #[test]
    fn half_a_copy_is_none() {
        for line in [
            "dd",
            "dd if=/dev/sdb",
            "dd of=/dev/sda",
            "dd if=/a of=/a",
            "dd if=/a of=/dev/stdout",
        ] {
            assert_eq!(parse(line).purpose(), Purpose::Other, "{line}");
        }
    }

    #[test]
    fn operands_cut_in_two_by_busybox_are_read() {
        let copy = parse("dd if /dev/sdb of /dev/sda bs 1M count 1024");
        assert_eq!(copy, parse("dd if=/dev/sdb of=/dev/sda bs=1M count=1024"));
        assert_eq!(
            parse("dd count 0 if /dev/sdb of=/dev/sda").purpose(),
            Purpose::Other
        );
        assert_eq!(
            parse("dd if /mnt/a=b of").source.as_deref(),
            Some("/mnt/a=b")
        );
    }

    #[test]
    fn where_a_copy_begins_is_counted_in_blocks_or_bytes() {
        for (line, skip, seek) in [
            ("dd if=/a of=/b bs=1M skip=2 seek=3", 2 << 20, 3 << 20),
            ("dd if=/a of=/b ibs=1k obs=4k iseek=2 oseek=3", 2048, 12288),
            ("dd if=/a of=/b skip=2 seek=3B", 1024, 3),
            (
                "dd if=/a of=/b iflag=direct,skip_bytes oflag=seek_bytes skip=7 seek=9",
                7,
                9,
            ),
            ("dd if=/a of=/b skip=17592186044416E seek=x", 0, 0),
            ("dd if=/a of=/b", 0, 0),
        ] {
            let operands = parse(line);
            assert_eq!((operands.skip, operands.seek), (skip, seek), "{line}");
        }
        let most = parse("dd if=/a of=/b bs=15E skip=15E");
        assert_eq!(most.skip, u64::MAX);
    }

    #[test]
    fn the_last_of_a_repeated_operand_wins() {
        assert_eq!(parse("dd if=/a if=/b of=/c").source.as_deref(), Some("/b"));
    }

    #[test]
    fn numbers_are_read_as_dd_reads_them() {
        for (text, value) in [
            ("0", Some(0)),
            ("64k", Some(65_536)),
            ("64K", Some(65_536)),
            ("1kB", Some(1_000)),
            ("2MiB", Some(2 << 20)),
            ("3b", Some(1_536)),
            ("2x3x4", Some(24)),
            ("10B", Some(10)),
            ("E", None),
            ("-1", None),
            ("16E", None),
            ("", None),
        ] {
            assert_eq!(number(text), value, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_command_line_makes_the_parser_panic(arguments in proptest::collection::vec("(if|of|count|bs|ibs|obs|iflag)?=?.{0,24}|if|of|bs", 0..8)) {
            let operands = Operands::parse(&arguments);
            let _ = operands.purpose();
        }

        #[test]
        fn no_number_makes_the_parser_panic(text in "[0-9a-zA-Zx]{0,30}") {
            let _ = number(&text);
        }
    }

    #[test]
    fn damaged_input_as_operands() {
        let seeds = [
            "/bin/dd\0if=/dev/sdb\0of=/dev/sda\0count=1073741824\0bs=1M\0iflag=count_bytes,direct\0oflag=direct",
            "dd\0if\0/dev/a\0of\0/dev/b\0count=0x10k\0skip=2xM\0seek=1KiBB\0conv=sparse",
        ];
        let seeds = seeds.map(|seed| seed.as_bytes().to_vec());
        crate::mutation::try_many("operands", &seeds, |input| {
            let text = String::from_utf8_lossy(input);
            let arguments: Vec<String> = text.split('\0').map(str::to_owned).collect();
            let _ = Operands::parse(&arguments).purpose();
        });
    }
}
