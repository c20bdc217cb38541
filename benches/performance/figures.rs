//! Medians, ratios and how they are written.

use std::fmt::Write;
use std::time::Duration;

/// The middle value.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(values, 0.5)
}

/// The value below which `share` of all are.
pub fn quantile(values: impl IntoIterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let at = (values.len().saturating_sub(1)) as f64 * share;
    values.get(at.round() as usize).copied().unwrap_or(f64::NAN)
}

/// The median of the ratios of each round, so that a slow minute strikes both alike.
pub fn ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    median(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs))
}

/// A goal that a figure must not exceed.
pub fn at_most(figure: f64, limit: f64) -> &'static str {
    if figure <= limit { "reached" } else { "missed" }
}

/// A goal that a figure must reach.
pub fn at_least(figure: f64, limit: f64) -> &'static str {
    if figure >= limit { "reached" } else { "missed" }
}

/// Seconds in a unit that suits them.
pub fn time(seconds: f64) -> String {
    match seconds {
        s if s.is_nan() => "none".to_owned(),
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 0.1 => format!("{:.2} ms", s * 1e3),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s => format!("{s:.1} s"),
    }
}

/// The seconds of each.
pub fn seconds(times: &[Duration]) -> impl Iterator<Item = f64> + '_ {
    times.iter().map(Duration::as_secs_f64)
}

/// A table in Markdown.
pub struct Table(String);

impl Table {
    /// One without rows.
    pub fn new(columns: &[&str]) -> Self {
        let mut table = Self(String::new());
        table.row(columns);
        table.row(&vec!["---"; columns.len()]);
        table
    }

    /// One more row.
    pub fn row(&mut self, cells: &[impl AsRef<str>]) {
        for cell in cells {
            write!(self.0, "| {} ", cell.as_ref()).unwrap();
        }
        self.0.push_str("|\n");
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.0
    }
}
