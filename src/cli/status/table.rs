//! The copies as a table in the width of a terminal, the most important columns first, or as plain lines.

use console::{measure_text_width, truncate_str};

use super::format::{self, shorten};
use super::row::Row;
use crate::progress::KnownBy;

/// The width assumed for a terminal that does not report its own.
const USUAL_WIDTH: usize = 80;

/// From this width on, volume ids and units are written in full.
const WIDE: usize = 140;

/// Characters of a volume's id in a narrow table.
const SHORT_ID: usize = 8;

/// Between two columns.
const GAP: &str = " ";

/// One line for each copy, without bars and without shortening, for `grep` and for files. Columns, two
/// spaces apart: volume, percent, copied of total, rate, time left, state, source → destination, kind and pid, and
/// what else there is to say.
pub(super) fn plain(row: &Row) -> String {
    let mut cells = vec![
        row.volume_id.clone().unwrap_or_else(|| "-".to_owned()),
        percent(row),
        copied(row, format::bytes, " of "),
        rate(row, format::bytes),
        left(row),
        state(row).to_owned(),
        format!("{} → {}", row.source, row.destination),
        format!("{} pid {}", row.kind, row.pid),
    ];
    cells.extend(known_otherwise(row).map(|rule| format!("known by {rule}")));
    cells.extend(row.since.iter().map(|since| format!("since {since}")));
    cells.extend(row.unseen.iter().map(|unseen| format!("({unseen})")));
    cells.join("  ")
}

/// A heading and a line for each copy, each at most `width` columns wide. With `long` a second line for each
/// says the rest in full.
pub(super) fn table(rows: &[Row], width: Option<usize>, long: bool) -> Vec<String> {
    let width = width.unwrap_or(USUAL_WIDTH).max(40);
    let wide = width >= WIDE;
    let bar_width = (width / 8).clamp(6, 24);
    let bytes = if wide {
        format::bytes
    } else {
        format::short_bytes
    };
    let between = if wide { " of " } else { "/" };
    let heads = [
        "VOLUME",
        "",
        "%",
        "COPIED",
        "RATE",
        "LEFT",
        "STATE",
        "FROM → TO",
        "PID",
    ];
    let mut lines: Vec<[String; 9]> = vec![heads.map(str::to_owned)];
    for row in rows {
        let volume = match &row.volume_id {
            Some(id) if wide => id.clone(),
            Some(id) => id.chars().take(SHORT_ID).collect(),
            None => "-".to_owned(),
        };
        lines.push([
            volume,
            bar(row.percent.unwrap_or(0), bar_width),
            percent(row),
            copied(row, bytes, between),
            rate(row, bytes),
            left(row),
            state(row).to_owned(),
            String::new(),
            row.pid.to_string(),
        ]);
    }
    let mut widths = [0; 9];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(measure_text_width(cell));
        }
    }
    // The paths get the rest of the width, and never too little to be useful.
    widths[PATHS] = 0;
    let taken: usize = widths.iter().sum::<usize>() + GAP.len() * 8;
    widths[PATHS] = width.saturating_sub(taken).max(7);
    for (line, row) in lines.iter_mut().skip(1).zip(rows) {
        line[PATHS] = paths(&row.source, &row.destination, widths[PATHS]);
    }
    let mut drawn = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let cells = line.iter().zip(widths).enumerate();
        let cells: Vec<String> = cells
            .map(|(column, (cell, width))| pad(cell, width, column))
            .collect();
        drawn.push(truncate_str(cells.join(GAP).trim_end(), width, "…").into_owned());
        if long && let Some(row) = number.checked_sub(1).and_then(|number| rows.get(number)) {
            drawn.extend(details(row));
        }
    }
    drawn
}

/// The rule by which the volume is known, unless that is the name.
fn known_otherwise(row: &Row) -> Option<&'static str> {
    row.known_by.filter(|&rule| rule != KnownBy::Name.name())
}

/// The column that gets the width that the others leave.
const PATHS: usize = 7;

fn pad(cell: &str, width: usize, column: usize) -> String {
    let space = " ".repeat(width.saturating_sub(measure_text_width(cell)));
    // Numbers are aligned right, words left.
    match column {
        2..=5 | 8 => space + cell,
        _ => cell.to_owned() + &space,
    }
}

fn details(row: &Row) -> Vec<String> {
    let mut details = Vec::new();
    let rule = known_otherwise(row).map(|rule| format!(", known by {rule}"));
    let rule = rule.unwrap_or_default();
    details.extend(
        row.volume_id
            .iter()
            .map(|id| format!("    volume {id}{rule}")),
    );
    details.push(format!("    {} → {}", row.source, row.destination));
    let since = row.since.as_ref().map(|since| format!(", since {since}"));
    details.push(format!(
        "    {} pid {}{}",
        row.kind,
        row.pid,
        since.unwrap_or_default()
    ));
    details.extend(
        row.unseen
            .iter()
            .map(|unseen| format!("    not seen: {unseen}")),
    );
    details
}

fn bar(percent: u8, width: usize) -> String {
    let full = width * usize::from(percent.min(100)) / 100;
    format!("{}{}", "█".repeat(full), "░".repeat(width - full))
}

fn percent(row: &Row) -> String {
    row.percent
        .map_or("?%".to_owned(), |percent| format!("{percent}%"))
}

fn copied(row: &Row, bytes: fn(u64) -> String, between: &str) -> String {
    let bytes = |number: Option<u64>| number.map_or("?".to_owned(), bytes);
    format!("{}{between}{}", bytes(row.bytes), bytes(row.total_bytes))
}

fn rate(row: &Row, bytes: fn(u64) -> String) -> String {
    row.bytes_per_second
        .map_or("-".to_owned(), |rate| format!("{}/s", bytes(rate)))
}

fn left(row: &Row) -> String {
    row.seconds_left.map_or("-".to_owned(), format::duration)
}

fn state(row: &Row) -> &'static str {
    row.state.map_or("unknown", |state| state.name())
}

/// Both ends in `width` columns: without the folder that both lie in, and shortened in the middle.
fn paths(source: &str, destination: &str, width: usize) -> String {
    const ARROW: &str = "→";
    let room = width.saturating_sub(ARROW.chars().count());
    let fits = |from: &str, to: &str| from.chars().count() + to.chars().count() <= room;
    let (mut from, mut to) = (source, destination);
    if !fits(from, to) {
        let common = from
            .bytes()
            .zip(to.bytes())
            .take_while(|(from, to)| from == to)
            .count();
        // Up to the last slash that both have. A slash is one byte in UTF-8, so the cut is between characters.
        let folder = from.as_bytes()[..common]
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |at| at + 1);
        (from, to) = (&from[folder..], &to[folder..]);
    }
    if fits(from, to) {
        return format!("{from}{ARROW}{to}");
    }
    let half = room / 2;
    // Width that the shorter end does not need is used for the other one.
    let (from_length, to_length) = (from.chars().count(), to.chars().count());
    let from_width = if to_length < half {
        room - to_length
    } else {
        half.min(from_length)
    };
    let to_width = room.saturating_sub(from_width.min(from_length));
    format!(
        "{}{ARROW}{}",
        shorten(from, from_width),
        shorten(to, to_width)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::CopyMethod;
    use crate::progress::speed::State;

    const ID: &str = "b5012f4a-d256-45a1-8370-86a6dd7e6dde";

    fn row() -> Row {
        Row {
            volume_id: Some(ID.to_owned()),
            known_by: Some("name"),
            source: format!("/dev/mapper/vg--a-volume--{}", ID.replace('-', "--")),
            destination: format!("/dev/mapper/vg--b-volume--{}", ID.replace('-', "--")),
            percent: Some(42),
            bytes: Some(42 << 30),
            total_bytes: Some(100 << 30),
            bytes_per_second: Some(20 << 20),
            seconds_left: Some(2969),
            since: Some("2026-01-02T03:04:05Z".to_owned()),
            pid: 3_155_001,
            kind: "dd",
            state: Some(State::Copying),
            unseen: None,
            method: CopyMethod::Dd,
            settled: true,
            started: None,
        }
    }

    #[test]
    fn it_fits_any_width() {
        let mut other = row();
        (other.volume_id, other.percent, other.bytes, other.state) = (None, None, None, None);
        (other.source, other.destination) = ("/dev/sdb".to_owned(), "/dev/sda".to_owned());
        for width in 40..200 {
            for line in table(&[row(), other.clone()], Some(width), false) {
                assert!(measure_text_width(&line) <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn at_80_columns_all_of_it_is_there() {
        let lines = table(&[row()], Some(80), false);
        assert_eq!(lines.len(), 2);
        for part in [
            "b5012f4a", "█", "42%", "42G/100G", "20M/s", "49:29", "copying", "→", "3155001",
        ] {
            assert!(lines[1].contains(part), "{part}: {}", lines[1]);
        }
    }

    #[test]
    fn the_paths_get_all_the_room_that_is_left() {
        for width in [80, 150] {
            let lines = table(&[row()], Some(width), false);
            assert_eq!(measure_text_width(&lines[1]), width, "{}", lines[1]);
        }
    }

    #[test]
    fn at_150_columns_ids_are_whole() {
        let lines = table(&[row()], Some(150), false);
        for part in [ID, "42.0 GiB of 100 GiB", "20.0 MiB/s"] {
            assert!(lines[1].contains(part), "{part}: {}", lines[1]);
        }
    }

    #[test]
    fn long_says_the_rest_in_full() {
        let lines = table(&[row()], Some(80), true).join("\n");
        for part in [
            ID,
            &row().source,
            "dd pid 3155001, since 2026-01-02T03:04:05Z",
        ] {
            assert!(lines.contains(part), "{part}: {lines}");
        }
    }

    #[test]
    fn without_a_terminal_it_is_one_line_with_everything() {
        let line = plain(&row());
        assert_eq!(
            line,
            format!(
                "{ID}  42%  42.0 GiB of 100 GiB  20.0 MiB/s  49:29  copying  {} → {}  dd pid 3155001  \
                 since 2026-01-02T03:04:05Z",
                row().source,
                row().destination
            )
        );
    }

    #[test]
    fn paths_keep_what_tells_them_apart() {
        assert_eq!(paths("/dev/sdb", "/dev/sda", 20), "/dev/sdb→/dev/sda");
        assert_eq!(paths("/dev/sdb", "/dev/sda", 8), "sdb→sda");
        let (one, two) = ("/dev/vg1/volume-1234567890", "/dev/vg2/volume-1234567890");
        assert_eq!(paths(one, two, 23), "vg1/v…67890→vg2/v…67890");
        assert_eq!(paths("é/a", "ü/b", 3), "…→…");
    }
}
