//! A daemon that remembers as many copies as it can hands over and answers as one that remembers none.
//!
//! A node that has migrated for weeks is such a one, and after a restart all of it comes from the state file.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::answers::{Answer, Answers};
use crate::support::broker::SharedBroker;
use crate::support::copy::{GIB, Volume};
use crate::support::daemon::Daemon;
use crate::support::load::{properties, publish, publisher};
use crate::support::operation;
use crate::support::recorder::{Queues, Via};
use crate::support::service::{Service, unique_name};
use crate::support::trial::Trial;
use crate::support::wait::until;

/// So many copies by dd are remembered.
const FULL: usize = 1024;

/// With each of the two daemons.
const OPERATIONS: u64 = 200;

#[tokio::test]
async fn operations_and_answers_are_the_same() {
    let service = Service::unique();
    let trial = Trial::start(&SharedBroker::amqp_uri(), &service, Queues::durable()).await;
    let mut daemon = Daemon::start(&SharedBroker::transport_url(), &service, "");
    let (connection, channel) = publisher(&SharedBroker::amqp_uri()).await.unwrap();
    let answers = Answers::default();
    let reply_queue = answers.listen(&connection).await.unwrap();
    let volume = Volume::unique();
    let copy = volume.copy();
    copy.hold_beyond(GIB / 2).await;
    // While the daemon stands aside for a moment a call goes to cinder-volume, which refuses it.
    let ask = async || {
        until("a call is answered", async || {
            let id = unique_name("call");
            let call = operation::progress_call_about(&volume.argument(), &id, &reply_queue);
            publish(&channel, &service.server_queue(), &call, properties()).await;
            let answer = until("a call gets an answer or an error", async || {
                answers.to(&id)
            });
            match answer.await {
                Answer::Result(progress) => Some(progress),
                Answer::Failure => None,
            }
        })
        .await
    };
    let progress = ask().await;
    stop(&mut daemon).await;

    let state = daemon.folder().join("state.json");
    let mut saved = read(&state);
    fill(&mut saved, &volume);
    fs::write(&state, saved.to_string()).unwrap();
    daemon.start_again();
    let copies = format!("copies={FULL}");
    daemon.wait_for_log(&copies).await;
    trial.recorder.wait_for_one_via(Via::Topic).await;
    trial.load.wait_for_more(OPERATIONS).await;
    assert_eq!(ask().await, progress);

    stop(&mut daemon).await;
    assert_eq!(records(&mut read(&state)).len(), FULL);
    daemon.start_again();
    daemon.wait_for_log(&copies).await;
    trial.recorder.wait_for_one_via(Via::Topic).await;
    trial.load.wait_for_more(OPERATIONS).await;
    assert_eq!(ask().await, progress);
    let verdict = trial.finish_answered().await;
    verdict.assert_exact_and_in_order();
    assert!(verdict.progress.answered > 0, "{verdict:?}");
}

async fn stop(daemon: &mut Daemon) {
    daemon.process.signal("TERM").await;
    let status = daemon.process.wait_for_exit().await;
    assert!(status.success(), "{status}: {}", daemon.log());
}

fn read(state: &Path) -> Value {
    serde_json::from_slice(&fs::read(state).unwrap()).unwrap()
}

fn records(saved: &mut Value) -> &mut Vec<Value> {
    saved["records"].as_array_mut().unwrap()
}

/// Adds copies that are just over until the memory is full: of other volumes, and of disks that nothing names.
fn fill(saved: &mut Value, volume: &Volume) {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let now = json!({"secs_since_epoch": since.as_secs(), "nanos_since_epoch": 0});
    let records = records(saved);
    let running = records.iter().map(Value::to_string);
    let mut running = running.filter(|record| record.contains(volume.id()));
    let running = running.next().unwrap();
    for number in records.len()..FULL {
        let of_another = running.replace(volume.id(), &Uuid::new_v4().to_string());
        let mut over: Value = serde_json::from_str(&of_another).unwrap();
        // The first process ids are long taken by others.
        over["id"] = json!({"start": number, "pid": 2});
        over["over"] = json!(true);
        over["ended"] = now.clone();
        over["lately"] = now.clone();
        over["volume"] = Value::Null;
        if number % 2 == 0 {
            over["source"] = json!({
                "aliases": [format!("/dev/sd-{number}")],
                "inode": null,
                "bytes": 2 * GIB,
                "device": true,
                "traced": true,
                "nameless": true,
            });
            over["bytes"] = json!(2 * GIB);
        }
        records.push(over);
    }
    records.sort_by_key(|record| record["id"]["start"].as_u64());
}
