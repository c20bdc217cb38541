//! Where the daemon may not publish, no call is taken, and `check` names the permission.
//!
//! Answers and hand-overs go by way of the default exchange. A call that was taken and cannot be
//! answered costs its caller a minute; left on its queue it gets cinder-volume's error at once.

use crate::support::broker::SharedBroker;
use crate::support::command::run;
use crate::support::daemon::Daemon;
use crate::support::recorder::{Queues, Via};
use crate::support::service::{Service, unique_name};
use crate::support::trial::Trial;

async fn permit_to_write(user: &str, pattern: &str) {
    SharedBroker::ctl(&["set_permissions", user, ".*", pattern, ".*"]).await;
}

#[tokio::test]
async fn until_it_may() {
    let service = Service::unique();
    let user = unique_name("user");
    SharedBroker::ctl(&["add_user", &user, "password"]).await;
    permit_to_write(&user, "^cinder").await;
    let account = format!("{user}:password");
    let url = SharedBroker::transport_url().replace("guest:guest", &account);

    let trial = Trial::start(&SharedBroker::amqp_uri(), &service, Queues::transient()).await;
    let daemon = Daemon::start(&url, &service, "");
    daemon
        .wait_for_log("may not write to the default exchange")
        .await;
    let configuration = format!(
        "[DEFAULT]\ntransport_url = {url}\nhost = {}\nenabled_backends = lvm\n",
        service.host
    );
    let said = run(&configuration, &["check"]).await;
    let line = said.out.lines().find(|line| line.contains("rights"));
    assert!(
        line.is_some_and(|line| line.starts_with("FAIL")),
        "{said:?}"
    );
    assert!(said.out.contains("match amq.default"), "{said:?}");
    trial.recorder.wait_for_one_via(Via::Server).await;
    assert_eq!(trial.recorder.count(Via::Topic), 0);

    permit_to_write(&user, ".*").await;
    daemon.wait_for_log("serving beside").await;
    trial.recorder.wait_for_one_via(Via::Topic).await;
    let said = run(&configuration, &["check"]).await;
    assert!(
        said.out.contains("may write to the default exchange"),
        "{said:?}"
    );
    SharedBroker::ctl(&["delete_user", &user]).await;
    let verdict = trial.finish().await;
    verdict.assert_exact();
    // Those of before were cinder-volume's to refuse.
    assert_eq!(verdict.progress.unanswered, 0, "{verdict:?}");
    assert!(verdict.progress.refused > 0, "{verdict:?}");
}
