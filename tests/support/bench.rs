//! The daemon on its own, and a caller of some release.

use super::broker::SharedBroker;
use super::caller::Caller;
use super::daemon::Daemon;
use super::environment::Release;
use super::service::Service;

/// Nobody but the daemon serves the topic.
pub struct Alone {
    /// The names.
    pub service: Service,
    /// Ready to answer.
    pub daemon: Daemon,
    /// Ready to call.
    pub caller: Caller,
}

impl Alone {
    /// Starts both.
    pub async fn start(release: Release) -> Self {
        Self::start_with(release, "", &[]).await
    }

    /// The same with more of the daemon's configuration, in `[progress]`, and options of the caller.
    pub async fn start_with(release: Release, configuration: &str, caller: &[&str]) -> Self {
        let service = Service::unique();
        let url = SharedBroker::transport_url();
        let (daemon, caller) = tokio::join!(
            Daemon::alone(&service, configuration),
            Caller::start_with(release, &url, caller),
        );
        Self {
            service,
            daemon,
            caller,
        }
    }
}
