//! What the service manager (systemd) is told: ready, the state, alive, reloading, stopping.
//!
//! Nothing is sent where no service manager listens (`NOTIFY_SOCKET` is not set).
//!
//! The watchdog is fed only while no task of the daemon is stuck; see
//! [`liveness`](crate::liveness). A task of the runtime that does the work feeds it, so the watchdog
//! is not fed when that runtime blocks.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use crate::liveness::{Changes, Liveness};

/// How long a message may take; a service manager that has not taken it by then will not.
const SEND: Duration = Duration::from_secs(1);

/// The daemon serves, or tries to; after a reload it does so again.
pub async fn ready() {
    tell(Notification::Ready).await;
}

/// The settings are being read again. [`ready`] has to follow, also after a failure.
pub async fn reloading() {
    tell(Notification::Reloading).await;
}

/// The daemon is about to end.
pub async fn stopping() {
    tell(Notification::Stopping).await;
}

/// Tells the daemon's state whenever it changes, and feeds the watchdog while no task is stuck, at
/// half the time that the service manager allows. Never returns.
pub async fn keep_told(liveness: Liveness) {
    let mut changes = liveness.changes();
    let pause = sd_notify::watchdog_enabled().map(|allowed| allowed / 2);
    let feeding = feed(&liveness, pause, async || tell(Notification::Alive).await);
    tokio::join!(tell_changes(&liveness, &mut changes), feeding);
}

async fn tell_changes(liveness: &Liveness, changes: &mut Changes) {
    let mut told = String::new();
    loop {
        let now = one_line(&liveness.summary());
        if now != told {
            tell(Notification::Status(now.clone())).await;
            told = now;
        }
        changes.next().await;
    }
}

/// Calls `alive` every `pause`, while no task is stuck.
async fn feed(liveness: &Liveness, pause: Option<Duration>, alive: impl AsyncFn()) {
    let Some(pause) = pause.filter(|pause| !pause.is_zero()) else {
        return;
    };
    let mut ticks = tokio::time::interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = false;
    loop {
        ticks.tick().await;
        match liveness.stuck() {
            None => {
                if std::mem::take(&mut said) {
                    info!("no longer stuck: the watchdog is fed again");
                }
                alive().await;
            }
            Some(stuck) => {
                if !std::mem::replace(&mut said, true) {
                    error!(
                        task = ?stuck.role, silent_for = ?stuck.silence,
                        "stuck: the watchdog is not fed, systemd will restart the daemon"
                    );
                }
            }
        }
    }
}

/// An owned message, because it is sent from another thread.
enum Notification {
    Ready,
    Reloading,
    Stopping,
    Alive,
    Status(String),
}

/// Sends on a thread of its own, because a service manager that does not read blocks the sender.
async fn tell(message: Notification) {
    let sending = tokio::task::spawn_blocking(move || send(&message));
    match tokio::time::timeout(SEND, sending).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(cause))) => warn!(%cause, "systemd notification failed"),
        Ok(Err(cause)) => warn!(%cause, "systemd notification failed"),
        Err(_) => warn!("systemd notification timed out"),
    }
}

fn send(message: &Notification) -> io::Result<()> {
    match message {
        Notification::Ready => sd_notify::notify(&[NotifyState::Ready]),
        // The service manager keeps the last status after the daemon's end.
        Notification::Stopping => {
            sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status("stopping")])
        }
        Notification::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
        Notification::Status(line) => sd_notify::notify(&[NotifyState::Status(line)]),
        Notification::Reloading => {
            sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?])
        }
    }
}

/// A line break would begin another message.
fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::liveness::Role;

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_at_its_pace_until_a_part_is_stuck_and_again_when_it_moves() {
        let patience = Duration::from_secs(30);
        let liveness = Liveness::new(patience);
        let task = liveness.task(Role::Entry, None);
        let fed = Cell::new(0);
        let second = Duration::from_secs(1);
        let feeding = feed(&liveness, Some(second), async || fed.set(fed.get() + 1));
        tokio::pin!(feeding);
        let mut run = async |time| {
            tokio::select! {
                () = &mut feeding => panic!("feeding never ends"),
                () = tokio::time::sleep(time) => {}
            }
            fed.replace(0)
        };
        let millisecond = Duration::from_millis(1);
        assert_eq!(run(second * 10 + millisecond).await, 11);
        assert_eq!(run(second * 20).await, 20);
        assert_eq!(run(second * 100).await, 0);
        task.heartbeat();
        assert_eq!(run(second * 10).await, 10);
    }

    #[tokio::test]
    async fn nobody_is_fed_who_did_not_ask() {
        feed(&Liveness::new(SEND), None, async || panic!("fed")).await;
    }

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(one_line("a\nREADY=1\tb"), "a READY=1 b");
    }
}
