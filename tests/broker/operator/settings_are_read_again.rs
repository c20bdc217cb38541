//! On SIGHUP the settings are read again: what may change does, what may not is said, and a mistake
//! changes nothing.

use serde_json::json;

use crate::support::bench::Alone;
use crate::support::caller::Call;
use crate::support::copy::Volume;
use crate::support::daemon::Daemon;
use crate::support::environment::Release;
use crate::support::scrape::{self, METRICS, Scrape};
use crate::support::wait::until;

const SUCCESS: &str = "cinder_progress_config_last_reload_successful";

/// Replaces a text of the configuration file, sends HUP, and returns the line of the log that comes of it.
async fn change(daemon: &Daemon, old: &str, new: &str, said: &str) -> String {
    let file = daemon.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(old), "{old} in {text}");
    std::fs::write(&file, text.replace(old, new)).unwrap();
    let from = daemon.process.stderr.len();
    daemon.process.signal("HUP").await;
    daemon.wait_for_log_from(from, said).await
}

#[tokio::test]
async fn what_may_change_does_without_a_new_connection() {
    let configuration = format!("unknown_progress = first\nmigration_mode = TAPE\n{METRICS}");
    let bench = Alone::start_with(Release::Latest, &configuration, &[]).await;
    let daemon = &bench.daemon;
    let address = scrape::address(daemon).await;
    let volume = Volume::unique();
    let call = Call::progress(&bench.service, &volume.argument());
    let ask = || bench.caller.call(&call);
    assert_eq!(ask().await.unwrap(), json!("first"));

    let read = "settings read again";
    let line = change(daemon, "= first", "= second", read).await;
    assert!(line.contains("changed=true"), "{line}");
    assert!(!line.contains("restart"), "{line}");
    assert_eq!(ask().await.unwrap(), json!("second"));

    change(daemon, "= TAPE", "= HOST_BASED\nrpc_version = 3.5", read).await;
    let refused = ask().await.unwrap_err();
    assert_eq!(refused.thrown(), "UnsupportedVersion");
    let older = call.clone().version("3.5");
    assert_eq!(bench.caller.call(&older).await.unwrap(), json!("0"));

    assert!(!daemon.log().contains("DEBUG"));
    change(daemon, "[DEFAULT]", "[DEFAULT]\ndebug = true", read).await;
    bench.caller.call(&older).await.unwrap();
    daemon.wait_for_log("DEBUG").await;
    change(daemon, "debug = true", "debug = false", read).await;
    let from = daemon.process.stderr.len();
    bench.caller.call(&older).await.unwrap();
    assert!(
        !daemon.process.stderr.lines()[from..]
            .iter()
            .any(|line| line.contains("DEBUG"))
    );

    let scrape = Scrape::of(&address).await;
    assert!(scrape.value("cinder_progress_connections_total") <= 3.0);
    assert_eq!(scrape.value(SUCCESS), 1.0);
}

#[tokio::test]
async fn what_takes_a_restart_is_said_and_left_alone() {
    let bench = Alone::start_with(Release::Latest, "scan_interval = 1", &[]).await;
    let daemon = &bench.daemon;
    let line = change(
        daemon,
        "scan_interval = 1",
        "scan_interval = 2\nprefetch = 3",
        "settings read again",
    )
    .await;
    assert!(line.contains("changed=false"), "{line}");
    assert!(
        line.contains("restart the daemon to take up these options")
            && line.contains(r#"options="prefetch, scan_interval""#),
        "{line}"
    );
}

#[tokio::test]
async fn a_mistake_is_told_with_its_place_and_changes_nothing() {
    let configuration = format!("migration_mode = TAPE\nunknown_progress = old\n{METRICS}");
    let bench = Alone::start_with(Release::Latest, &configuration, &[]).await;
    let daemon = &bench.daemon;
    let address = scrape::address(daemon).await;
    let line = change(
        daemon,
        "unknown_progress = old",
        "unknown_progress = new\nprefetch = many",
        "settings are invalid",
    )
    .await;
    let place = format!("{}:10: [progress] prefetch", daemon.config_file().display());
    assert!(line.contains("ERROR") && line.contains(&place), "{line}");
    let call = Call::progress(&bench.service, &Volume::unique().argument());
    assert_eq!(bench.caller.call(&call).await.unwrap(), json!("old"));
    success_is(&address, 0.0).await;

    change(daemon, "prefetch = many", "", "settings read again").await;
    assert_eq!(bench.caller.call(&call).await.unwrap(), json!("new"));
    success_is(&address, 1.0).await;
}

/// The page is made at most once a second.
async fn success_is(address: &str, value: f64) {
    until("the page says how the settings are", async || {
        let scrape = Scrape::of(address).await;
        (scrape.value(SUCCESS) == value).then_some(())
    })
    .await;
}
