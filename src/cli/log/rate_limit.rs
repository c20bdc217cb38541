//! Limits the lines of one kind.
//!
//! A caller that sends a thousand malformed requests a second must not fill the node's disk. Each place in
//! the code writes at most a hundred lines a second. Then one line has the number of suppressed lines. Errors are never
//! suppressed: they are rare, and each may be about an operation to look for.
//!
//! Lines are counted by place, so memory is bounded by the number of places.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, debug, info, warn};
use tracing_subscriber::layer::{Context, Filter};

/// Lines of one place that are written in each [`SPAN`], at most. Many backends may each write one.
const LINES: u32 = 100;

/// The time for which lines are counted.
const SPAN: Duration = Duration::from_secs(1);

/// Passes lines up to the limit.
#[derive(Debug, Default)]
pub(super) struct Limit(Arc<Mutex<Places>>);

#[derive(Debug, Default)]
struct Places {
    places: HashMap<Identifier, CallSite>,
    /// Whether a thread is going to report the suppressed lines.
    reporting: bool,
}

/// One place in the code that writes lines.
#[derive(Debug)]
struct CallSite {
    since: Instant,
    written: u32,
    held: Option<Held>,
}

/// Suppressed lines.
#[derive(Debug, PartialEq)]
struct Held {
    level: Level,
    message: String,
    count: u64,
}

impl Places {
    /// Whether a line of `place` is to be written at `now`.
    fn admit(
        &mut self,
        place: Identifier,
        level: Level,
        now: Instant,
        message: impl FnOnce() -> String,
    ) -> bool {
        let place = self.places.entry(place).or_insert(CallSite {
            since: now,
            written: 0,
            held: None,
        });
        if now.saturating_duration_since(place.since) >= SPAN {
            place.since = now;
            place.written = 0;
        }
        if place.written < LINES {
            place.written += 1;
            return true;
        }
        let held = place.held.get_or_insert_with(|| Held {
            level,
            message: message(),
            count: 0,
        });
        held.count += 1;
        false
    }

    fn take_held(&mut self) -> Vec<Held> {
        let places = self.places.values_mut();
        places.filter_map(|place| place.held.take()).collect()
    }
}

impl<S> Filter<S> for Limit {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let level = *metadata.level();
        if level == Level::ERROR || metadata.target() == module_path!() {
            return true;
        }
        let mut places = self.0.lock();
        let message = || LogText::of(event);
        if places.admit(metadata.callsite(), level, Instant::now(), message) {
            return true;
        }
        if !places.reporting {
            places.reporting = true;
            let later = Arc::clone(&self.0);
            let reporter = thread::Builder::new().name("log-limit".to_owned());
            // If no thread can be started, the next line tries again.
            places.reporting = reporter.spawn(move || report(&later)).is_ok();
        }
        false
    }
}

/// Logs the number of suppressed lines at the end of the span.
fn report(places: &Mutex<Places>) {
    thread::sleep(SPAN);
    let held = {
        let mut places = places.lock();
        places.reporting = false;
        places.take_held()
    };
    for Held {
        level,
        message,
        count,
    } in held
    {
        match level {
            Level::WARN => warn!(like = message, "{count} more suppressed"),
            Level::INFO => info!(like = message, "{count} more suppressed"),
            _ => debug!(like = message, "{count} more suppressed"),
        }
    }
}

/// The message of an event, without its fields.
#[derive(Default)]
struct LogText(String);

impl LogText {
    fn of(event: &Event<'_>) -> String {
        let mut message = Self::default();
        event.record(&mut message);
        message.0
    }
}

impl Visit for LogText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::callsite::{Callsite, DefaultCallsite};
    use tracing::metadata::Kind;

    use super::*;

    fn place() -> Identifier {
        static METADATA: Metadata<'static> = tracing::metadata! {
            name: "a line",
            target: "test",
            level: Level::WARN,
            fields: &[],
            callsite: &CALLSITE,
            kind: Kind::EVENT,
        };
        static CALLSITE: DefaultCallsite = DefaultCallsite::new(&METADATA);
        CALLSITE.metadata().callsite()
    }

    #[test]
    fn what_is_too_much_is_counted_until_the_time_is_over() {
        let mut places = Places::default();
        let now = Instant::now();
        let mut admit = |at| places.admit(place(), Level::WARN, at, || "a line".to_owned());
        let admitted = (0..LINES + 5).filter(|_| admit(now)).count();
        assert_eq!(admitted, LINES as usize);
        assert!(admit(now + SPAN), "a new time");
        let held = Held {
            level: Level::WARN,
            message: "a line".to_owned(),
            count: 5,
        };
        assert_eq!(places.take_held(), [held]);
        assert_eq!(places.take_held(), []);
    }
}
