//! Tries readers with damaged input: pieces of good input, changed, cut and put together at random.
//!
//! As a test it tries a few thousand, with the same ones each time; `scripts/fuzz` has it try for as long as it is
//! told, with others each time. What breaks a reader is printed in full.

use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::time::{ClockId, clock_gettime};

/// How many are tried when nothing is said.
const A_FEW: u64 = 3_000;

/// How much of a processor a try may take, and by how much all of them may enlarge the process: far above what any
/// does. Not the time that passes, which other programs lengthen; memory that is asked for counts whether it is used
/// or not.
const LONGEST: Duration = Duration::from_secs(1);
const MEMORY_KIB: u64 = 64 * 1024;

/// The longest input.
const LENGTH: usize = 128 * 1024;

/// What readers of text stumble over.
const WORDS: [&[u8]; 24] = [
    b"\0",
    b"\xff\xfe",
    b"\n",
    b"\r\n",
    b"[",
    b"]",
    b"{",
    b"}",
    b"\"",
    b"\\",
    b"\\u0000",
    b"=",
    b"%",
    b"$",
    b"/",
    b"//",
    b"-1",
    b"18446744073709551616",
    b"1e309",
    b"null",
    b"[[[[[[[[",
    b"{\"a\":",
    b" ",
    b"\xc3\xa9",
];

/// How many, and with which numbers.
enum Effort {
    Count(u64),
    Until(Instant),
}

/// Gives `reader` changed pieces of `seeds`, as `CINDER_PROGRESS_FUZZ_SECONDS` or `CINDER_PROGRESS_FUZZ_COUNT` says.
pub(crate) fn try_many(what: &str, seeds: &[Vec<u8>], reader: impl Fn(&[u8])) {
    let told = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let (effort, seed) = match (
        told("CINDER_PROGRESS_FUZZ_SECONDS"),
        told("CINDER_PROGRESS_FUZZ_COUNT"),
    ) {
        (Some(seconds), _) => {
            let until = Instant::now() + Duration::from_secs(seconds);
            (Effort::Until(until), fastrand::u64(..))
        }
        (None, Some(count)) => (Effort::Count(count), fastrand::u64(..)),
        (None, None) => (Effort::Count(A_FEW), 1),
    };
    let in_earnest = !matches!(effort, Effort::Count(A_FEW));
    let (mut random, begun, before) = (Rng::with_seed(seed), Instant::now(), largest_memory());
    let (mut tried, mut longest) = (0_u64, Duration::ZERO);
    while match effort {
        Effort::Count(count) => tried < count,
        Effort::Until(until) => Instant::now() < until,
    } {
        let input = changed(seeds, &mut random);
        let at = processor_time();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| reader(&input))) {
            eprintln!(
                "{what}: try {tried} of seed {seed} breaks it: {}",
                escaped(&input)
            );
            resume_unwind(panic);
        }
        let took = processor_time().saturating_sub(at);
        if took > longest {
            longest = took;
            assert!(
                !in_earnest || longest < LONGEST,
                "{what}: {longest:?} for {}",
                escaped(&input)
            );
        }
        tried += 1;
    }
    let grown = largest_memory().saturating_sub(before);
    assert!(
        !in_earnest || grown < MEMORY_KIB,
        "{what}: memory grew by {grown} KiB"
    );
    eprintln!(
        "{what}: {tried} tried in {:?}, the longest {longest:?}, memory grew by {grown} KiB",
        begun.elapsed()
    );
}

/// One of the seeds, changed in one to eight places; now and then one that was not there before.
fn changed(seeds: &[Vec<u8>], random: &mut Rng) -> Vec<u8> {
    let mut input = random.choice(seeds).cloned().unwrap_or_default();
    for _ in 0..random.u8(1..=8) {
        let at = random.usize(0..=input.len());
        let end = at + random.usize(0..=(input.len() - at).min(32));
        match random.u8(0..8) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..end)),
            2 => {
                let piece = input[at..end].to_vec();
                let to = random.usize(0..=input.len());
                input.splice(to..to, piece);
            }
            3 => input
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|byte| *byte ^= 1 << random.u8(0..8)),
            4 => input.insert(at, random.u8(..)),
            5 => {
                let other = random.choice(seeds).map_or(&[][..], Vec::as_slice);
                let from = random.usize(0..=other.len());
                input.truncate(at);
                input.extend(&other[from..]);
            }
            _ => {
                let word = random.choice(WORDS).unwrap_or_default();
                let times = if random.u8(0..16) == 0 {
                    random.usize(1..2_000)
                } else {
                    1
                };
                input.splice(at..end, word.repeat(times));
            }
        }
        input.truncate(LENGTH);
    }
    input
}

/// What this thread has used of a processor.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}

/// The largest that this process has been, in KiB of addresses.
fn largest_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

fn escaped(input: &[u8]) -> String {
    let mut text = String::new();
    for byte in input.escape_ascii() {
        let _ = text.write_char(char::from(byte));
    }
    text
}

#[test]
fn what_breaks_a_reader_is_found() {
    let seeds = [b"good input".to_vec()];
    let found = catch_unwind(|| {
        try_many("a reader that breaks", &seeds, |input| {
            assert!(!input.contains(&b'{'), "it cannot read this");
        });
    });
    assert!(found.is_err());
}
