//! The numbers, in Prometheus's text format, version 0.0.4.
//!
//! The number of series is bounded: the labels are from small fixed sets, but for those of copies, and
//! at most [`COPIES`] copies are shown.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

use prometheus::TextEncoder;
use prometheus::core::Collector;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use strum::VariantArray;

use super::Watched;
use crate::liveness::{Reason, Role, TaskState};
use crate::progress::{CopyEnd, KnownBy, LastSeen, RunningCopy, Trouble};
use crate::worker::policy::LivePolicy;

/// Copies shown at most, the oldest.
const COPIES: usize = 128;

/// Characters of a path shown at most.
const PATH: usize = 256;

/// The content type that goes with it.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All of it at this moment.
///
/// # Errors
///
/// The encoder's, which only a mistake in this file could make.
pub(super) fn text(watched: &Watched) -> Result<String, prometheus::Error> {
    let mut page = Page::default();
    process(&mut page, watched);
    calls(&mut page, watched);
    operations(&mut page, watched);
    broker(&mut page, watched);
    let policy = watched.policies.first().map(LivePolicy::now);
    let template = policy.map_or_else(String::new, |policy| policy.volume_name_template.clone());
    let mut seen = watched.tracker.seen();
    seen.running.retain(|copy| copy.may_be_cinders(&template));
    page.add(watched.tracker.scans_taken());
    scans(&mut page, &seen);
    copies(&mut page, &seen.running, &template);
    TextEncoder::new().encode_to_string(&page.0)
}

fn process(page: &mut Page, watched: &Watched) {
    page.gauges(
        "cinder_progress_build_info",
        "The running version; always 1.",
        [(&[("version", env!("CARGO_PKG_VERSION"))][..], 1.0)],
    );
    let started = watched.started.duration_since(UNIX_EPOCH);
    page.gauge(
        "process_start_time_seconds",
        "When the daemon was started, in seconds since 1970.",
        started.map_or(0.0, |since| since.as_secs_f64()),
    );
    page.gauge(
        "cinder_progress_config_last_reload_successful",
        "Whether the settings were good when they were last read.",
        truth(watched.settings_good.load(Ordering::Relaxed)),
    );
}

fn calls(page: &mut Page, watched: &Watched) {
    for outcome in &watched.calls.outcomes {
        page.add(outcome);
    }
    page.add(&watched.calls.durations);
    page.add(&watched.counters.replies);
    page.add(&watched.counters.replies_dropped);
}

fn operations(page: &mut Page, watched: &Watched) {
    let counters = &watched.counters;
    page.add(&counters.handed_over);
    page.add(&counters.returned);
    page.add(&counters.republished);
    page.add(&counters.in_doubt);
    page.add(&counters.left);
    for reason in &counters.stood_aside.0 {
        page.add(reason);
    }
    let queues: Vec<(&str, Option<TaskState>)> = watched
        .queues
        .iter()
        .map(|queue| {
            (
                queue.as_str(),
                watched.liveness.doing(&Role::Queue(queue.clone())),
            )
        })
        .collect();
    page.gauges(
        "cinder_progress_serving",
        "Whether this server queue is consumed.",
        queues.iter().map(|(queue, doing)| {
            let serving = *doing == Some(TaskState::Serving);
            ([("queue", *queue)], truth(serving))
        }),
    );
    page.gauges(
        "cinder_progress_serving_own_topic",
        "Whether this topic of the daemon's own is served.",
        watched.own_topics.iter().map(|topic| {
            let doing = watched.liveness.doing(&Role::OwnTopic(topic.clone()));
            let serving = doing == Some(TaskState::Serving);
            ([("topic", topic.as_str())], truth(serving))
        }),
    );
    page.gauges(
        "cinder_progress_standing_aside",
        "Whether this server queue is left to cinder-volume at this moment, for this reason.",
        queues.iter().flat_map(|(queue, doing)| {
            let now = match doing {
                Some(TaskState::Waiting(_)) => Some(Reason::Missing),
                Some(TaskState::Aside(reason, _)) => Some(*reason),
                _ => None,
            };
            Reason::VARIANTS.iter().map(move |&reason| {
                let labels = [("queue", *queue), ("reason", reason.name())];
                (labels, truth(now == Some(reason)))
            })
        }),
    );
}

fn broker(page: &mut Page, watched: &Watched) {
    let liveness = &watched.liveness;
    page.add(&watched.counters.connections);
    let mut lines = vec![("own_topics", Role::OwnTopics), ("replies", Role::Replies)];
    if !watched.queues.is_empty() {
        lines.push(("intake", Role::Intake));
    }
    page.gauges(
        "cinder_progress_connected",
        "Whether there is a connection to a broker, by what it is for.",
        lines
            .iter()
            .map(|(line, keeper)| ([("line", *line)], truth(liveness.is_connected(keeper)))),
    );
    let intake = liveness.blocked(|role| matches!(role, Role::Queue(_)));
    let replies = liveness.blocked(|role| *role == Role::ReplyPublisher);
    page.gauges(
        "cinder_progress_blocked",
        "Whether the broker, short of memory or disk, does not read from that connection.",
        [("intake", intake), ("replies", replies)]
            .map(|(line, blocked)| ([("line", line)], truth(blocked))),
    );
}

fn scans(page: &mut Page, seen: &LastSeen) {
    let last = seen.unseen.as_ref().map(|trouble| trouble.kind());
    page.gauges(
        "cinder_progress_scan_trouble",
        "Whether the last look at the process table missed processes, by reason.",
        Trouble::VARIANTS
            .iter()
            .map(|&kind| ([("reason", kind.name())], truth(last == Some(kind)))),
    );
    page.gauges(
        "cinder_progress_copies_unseen",
        "Running copies of which the position cannot be read, by reason.",
        Trouble::VARIANTS.iter().map(|&kind| {
            let troubles = seen.running.iter().filter_map(|copy| copy.trouble.as_ref());
            let count = troubles.filter(|trouble| trouble.kind() == kind).count();
            ([("reason", kind.name())], count as f64)
        }),
    );
    page.gauge(
        "cinder_progress_copies",
        "Copies of volumes that run on this node, by dd or through open files of cinder-volume.",
        seen.running.len() as f64,
    );
    page.counters(
        "cinder_progress_copies_ended_total",
        "Copies of volumes that have ended, by how.",
        CopyEnd::VARIANTS
            .iter()
            .map(|&end| (("outcome", end.name()), seen.ended.of(end))),
    );
}

fn copies(page: &mut Page, running: &[RunningCopy], template: &str) {
    let mut told_apart = HashSet::new();
    let shown: Vec<LabelledCopy<'_>> = running
        .iter()
        .map(|copy| LabelledCopy {
            volume_id: copy.volume_id(template).unwrap_or_default(),
            pid: copy.pid.to_string(),
            known_by: copy.known_by(template).map_or("", KnownBy::name),
            copy,
        })
        .filter(|shown| told_apart.insert((shown.volume_id.clone(), shown.copy.pid)))
        .take(COPIES)
        .collect();
    page.gauges(
        "cinder_progress_copy_info",
        "What a running copy reads and writes; always 1.",
        shown.iter().map(|shown| {
            let [volume_id, pid] = shown.labels();
            let source = ("source", cut(&shown.copy.source));
            let destination = ("destination", cut(&shown.copy.destination));
            ([volume_id, pid, source, destination, shown.rule()], 1.0)
        }),
    );
    let mut each = |name, help, value: fn(&RunningCopy) -> Option<f64>| {
        let known = shown
            .iter()
            .filter_map(|shown| Some((shown.labels(), value(shown.copy)?)));
        page.gauges(name, help, known);
    };
    each(
        "cinder_progress_copy_position_bytes",
        "How far into its destination a running copy is.",
        |copy| copy.position.map(|bytes| bytes as f64),
    );
    each(
        "cinder_progress_copy_size_bytes",
        "How many bytes a running copy has to write in all.",
        |copy| copy.total.map(|bytes| bytes as f64),
    );
    each(
        "cinder_progress_copy_ratio",
        "How much of a running copy is done, from 0 to 1.",
        |copy| match (copy.position?, copy.total?) {
            (_, 0) => None,
            (position, total) => Some((position as f64 / total as f64).min(1.0)),
        },
    );
}

/// A copy and the labels that tell it from others. The process id does so when one volume is read twice, or when
/// the name of the volume is not known. One process may make several copies through open files; of those of unknown
/// volumes one is shown, since a series must not occur twice.
struct LabelledCopy<'a> {
    volume_id: String,
    pid: String,
    known_by: &'static str,
    copy: &'a RunningCopy,
}

impl LabelledCopy<'_> {
    fn labels(&self) -> [(&str, &str); 2] {
        [("volume_id", &self.volume_id), ("pid", &self.pid)]
    }

    /// The rule by which the volume is known.
    fn rule(&self) -> (&'static str, &'static str) {
        ("known_by", self.known_by)
    }
}

fn truth(truth: bool) -> f64 {
    f64::from(u8::from(truth))
}

fn cut(path: &str) -> &str {
    path.char_indices()
        .nth(PATH)
        .map_or(path, |(end, _)| &path[..end])
}

/// Metric families in the order in which they are shown.
#[derive(Default)]
struct Page(Vec<MetricFamily>);

impl Page {
    fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        counts: impl IntoIterator<Item = ((&'a str, &'a str), u64)>,
    ) {
        let metrics = counts.into_iter();
        let metrics = metrics.map(|(label, count)| counter(&[label], count));
        self.family(name, help, MetricType::COUNTER, metrics.collect());
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauges(name, help, [([], value)]);
    }

    fn gauges<'a>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (impl AsRef<[(&'a str, &'a str)]>, f64)>,
    ) {
        let metrics = values.into_iter().map(|(labels, value)| {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            let mut metric = labelled(labels.as_ref());
            metric.set_gauge(gauge);
            metric
        });
        self.family(name, help, MetricType::GAUGE, metrics.collect());
    }

    /// Adds the family of `collector`, or its series if the last family has the same name.
    fn add(&mut self, collector: &impl Collector) {
        for mut family in collector.collect() {
            match self
                .0
                .last_mut()
                .filter(|last| last.name() == family.name())
            {
                Some(last) => last.mut_metric().append(family.mut_metric()),
                None => self.0.push(family),
            }
        }
    }

    fn family(&mut self, name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) {
        // The format does not allow a family without a series.
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.0.push(family);
    }
}

fn counter(labels: &[(&str, &str)], count: u64) -> Metric {
    let mut counter = Counter::default();
    // Exact up to 2^53.
    counter.set_value(count as f64);
    let mut metric = labelled(labels);
    metric.set_counter(counter);
    metric
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    Metric::from_label(pairs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::tests::watched;
    use crate::worker::outcomes::CallOutcome;

    #[test]
    fn what_was_counted_is_told_and_every_label_has_its_series() {
        let watched = watched();
        watched.counters.handed_over.inc_by(3);
        watched.counters.stood_aside.of(Reason::Backlog).inc_by(2);
        watched.calls.note(CallOutcome::Answered);
        watched.calls.durations.observe(0.003);
        let text = text(&watched).unwrap();
        for line in [
            "process_start_time_seconds 7",
            "cinder_progress_config_last_reload_successful 0",
            r#"cinder_progress_calls_total{outcome="answered"} 1"#,
            r#"cinder_progress_calls_total{outcome="passed"} 0"#,
            r#"cinder_progress_answer_duration_seconds_bucket{le="0.001"} 0"#,
            r#"cinder_progress_answer_duration_seconds_bucket{le="0.005"} 1"#,
            r#"cinder_progress_answer_duration_seconds_bucket{le="+Inf"} 1"#,
            "cinder_progress_answer_duration_seconds_sum 0.003",
            "cinder_progress_handed_over_total 3",
            r#"cinder_progress_stood_aside_total{reason="backlog"} 2"#,
            r#"cinder_progress_stood_aside_total{reason="missing"} 0"#,
            r#"cinder_progress_serving{queue="q"} 0"#,
            r#"cinder_progress_serving_own_topic{topic="t"} 0"#,
            r#"cinder_progress_scan_trouble{reason="denied"} 0"#,
            r#"cinder_progress_copies_ended_total{outcome="done"} 0"#,
            "cinder_progress_copies 0",
        ] {
            assert!(
                text.lines().any(|told| told == line),
                "{line} is not in\n{text}"
            );
        }
        let help = text
            .lines()
            .filter(|line| line.starts_with("# HELP "))
            .count();
        let kinds = text
            .lines()
            .filter(|line| line.starts_with("# TYPE "))
            .count();
        assert_eq!(help, kinds);
        // Of copies nothing is told while there is none.
        assert!(!text.contains("cinder_progress_copy_info"), "{text}");
    }

    #[test]
    fn a_path_is_cut_between_two_characters() {
        let path = "ä".repeat(PATH + 1);
        assert_eq!(cut(&path).chars().count(), PATH);
        assert_eq!(cut("/dev/sda"), "/dev/sda");
    }
}
