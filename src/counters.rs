//! Counters and histograms of the prometheus crate, each made with the name and the help of its family.

use std::array;

use prometheus::{Histogram, HistogramOpts, IntCounter, Opts};

/// Upper bounds of the buckets, in seconds. A look at a known copy takes less than the first, a look that hangs
/// about a second, a driver's command at most its time limit.
const BOUNDS: [f64; 12] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// A counter.
#[must_use]
pub fn counter(name: &str, help: &str) -> IntCounter {
    valid(IntCounter::new(name, help))
}

/// A family of counters: one for each of `N` values of `label`, the first of which is `value(0)`.
pub fn counters<'a, const N: usize>(
    name: &str,
    help: &str,
    label: &str,
    value: impl Fn(usize) -> &'a str,
) -> [IntCounter; N] {
    let opts = |at| Opts::new(name, help).const_label(label, value(at));
    array::from_fn(|at| valid(IntCounter::with_opts(opts(at))))
}

/// A histogram of durations, in seconds.
#[must_use]
pub fn histogram(name: &str, help: &str) -> Histogram {
    let opts = HistogramOpts::new(name, help).buckets(BOUNDS.to_vec());
    valid(Histogram::with_opts(opts))
}

#[expect(
    clippy::expect_used,
    reason = "names and bounds are constants, which every test of the metrics makes"
)]
fn valid<T>(metric: prometheus::Result<T>) -> T {
    metric.expect("names and bounds are valid")
}
