//! Lines that a process writes, and waiting for them.

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;
use tokio::time::timeout;

use super::wait::{PATIENCE, in_time};

/// All lines written so far; a task of its own keeps reading, so the process never waits for a reader.
#[derive(Clone)]
pub struct Transcript {
    lines: watch::Receiver<Vec<String>>,
}

impl Transcript {
    /// Starts to read.
    pub fn of(source: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let (sender, lines) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let mut source = BufReader::new(source).lines();
            while let Ok(Some(line)) = source.next_line().await {
                sender.send_modify(|lines| lines.push(line));
            }
        });
        Self { lines }
    }

    /// What was written up to now.
    pub fn lines(&self) -> Vec<String> {
        self.lines.borrow().clone()
    }

    /// The number of lines up to now: where to look for what comes next.
    pub fn len(&self) -> usize {
        self.lines.borrow().len()
    }

    /// Waits until all that the process wrote before it ended has been read.
    pub async fn wait_for_end(&self) {
        let mut lines = self.lines.clone();
        // Nothing is looked for, so this returns when nothing more can come.
        let ended = in_time("the output ends", lines.wait_for(|_| false)).await;
        assert!(ended.is_err());
    }

    /// Waits until `found` sees what it wants in a line from number `from` on.
    ///
    /// Panics when the process ends or time runs out before that.
    pub async fn find<T>(
        &self,
        what: &str,
        from: usize,
        mut found: impl FnMut(&str) -> Option<T>,
    ) -> T {
        let mut answer = None;
        let mut next = from;
        let mut lines = self.lines.clone();
        let search = lines.wait_for(|lines| {
            while answer.is_none() && next < lines.len() {
                answer = found(&lines[next]);
                next += 1;
            }
            answer.is_some()
        });
        let ended = match timeout(PATIENCE, search).await {
            Ok(outcome) => outcome.is_err(),
            Err(_) => false,
        };
        answer.unwrap_or_else(|| {
            let why = if ended {
                "the process ended".into()
            } else {
                format!("nothing for {PATIENCE:?}")
            };
            panic!(
                "no sign that {what}: {why}; it wrote:\n{}",
                self.lines().join("\n")
            )
        })
    }
}
