//! A service manager such as systemd, as far as a service sees it: a socket that takes its messages.

use std::time::Duration;

use tempfile::TempDir;
use tokio::net::UnixDatagram;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::wait::in_time;

/// Longer than any message.
const MESSAGE: usize = 4096;

/// A listening socket and all that came, with the time it came at.
pub struct Manager {
    folder: TempDir,
    messages: watch::Receiver<Vec<(Instant, String)>>,
    _listening: AbortOnDropHandle<()>,
}

impl Manager {
    /// Begins to listen.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        let (sender, messages) = watch::channel(Vec::new());
        let listening = tokio::spawn(async move {
            let mut message = vec![0; MESSAGE];
            while let Ok(length) = socket.recv(&mut message).await {
                let text = String::from_utf8(message[..length].to_vec()).unwrap();
                let text = text.trim_end().to_owned();
                sender.send_modify(|all| all.push((Instant::now(), text)));
            }
        });
        Self {
            folder,
            messages,
            _listening: AbortOnDropHandle::new(listening),
        }
    }

    /// What it sets for a service whose watchdog barks after `watchdog`.
    pub fn environment(&self, watchdog: Duration) -> [(&'static str, String); 2] {
        let socket = self.folder.path().join("notify");
        [
            ("NOTIFY_SOCKET", socket.display().to_string()),
            ("WATCHDOG_USEC", watchdog.as_micros().to_string()),
        ]
    }

    /// All messages so far.
    pub fn messages(&self) -> Vec<(Instant, String)> {
        self.messages.borrow().clone()
    }

    /// Waits until a message that satisfies `wanted` has come, the `count`-th one from message number
    /// `from` on, and returns it.
    pub async fn wait_for(
        &self,
        what: &str,
        from: usize,
        count: usize,
        wanted: impl Fn(&str) -> bool,
    ) -> String {
        let mut messages = self.messages.clone();
        let found = |all: &Vec<(Instant, String)>| {
            let mut fitting = all.iter().skip(from).filter(|(_, text)| wanted(text));
            fitting.nth(count - 1).map(|(_, text)| text.clone())
        };
        let what = format!("the service manager hears {what}");
        let all = in_time(&what, messages.wait_for(|all| found(all).is_some())).await;
        found(&all.unwrap()).unwrap()
    }
}
