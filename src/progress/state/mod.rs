//! What survives a restart of the daemon: its format, its file, and when it is written.

/// The file it is written to and read from.
pub(super) mod file;
/// What of the memory is kept, as it is written down.
pub(super) mod format;
/// Writes it, now and then, off the async tasks.
pub(super) mod writer;

use std::path::Path;
use std::time::Duration;

use super::proc::process;
use format::Saved;

/// How long reading the file may take.
const LIMIT: Duration = Duration::from_secs(1);

/// What was remembered in this boot of the node. A file that cannot be read is the same as none, but for a line
/// in the log.
pub(super) async fn load(path: &Path, proc: &Path) -> Saved {
    let (file, proc) = (path.to_owned(), proc.to_owned());
    let reading = tokio::task::spawn_blocking(move || file::load(&file, &process::boot_id(&proc)));
    let cause = match tokio::time::timeout(LIMIT, reading).await {
        Ok(Ok(Ok(saved))) => return saved,
        Ok(Ok(Err(cause))) => cause,
        Ok(Err(broken)) => broken.to_string(),
        Err(_) => "reading it takes too long".to_owned(),
    };
    tracing::warn!(path = %path.display(), cause, "cannot read the state file: starting without earlier copies");
    Saved::new("", Vec::new())
}
