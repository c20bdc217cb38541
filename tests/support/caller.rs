//! A caller such as cinder-api: an oslo.messaging client of some release.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::process::Command;
use tokio::sync::Mutex;

use super::environment::{Release, peer_script};
use super::process::Process;
use super::service::Service;

/// A long-lived Python process; calls may go on at the same time.
pub struct Caller {
    process: Mutex<Process>,
    next_id: AtomicU64,
}

/// What came of a call.
pub type Outcome = Result<Value, Box<Exception>>;

/// The exception that the caller's oslo.messaging raised.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Exception {
    /// Name of its class, `InvalidVolume_Remote` for one that was rebuilt.
    pub class: String,
    /// Module of its class.
    pub module: String,
    /// Its text; a rebuilt one's ends in the remote traceback.
    pub message: String,
    /// For a `RemoteError`: the class on the other side.
    pub remote_class: Option<String>,
    /// For a `RemoteError`: the message alone.
    pub remote_message: Option<String>,
    /// `code` of cinder's exceptions, the HTTP status.
    pub code: Option<i64>,
}

impl Exception {
    /// The class on the other side, rebuilt here or not.
    pub fn thrown(&self) -> &str {
        let class = self.remote_class.as_deref().unwrap_or(&self.class);
        class.trim_end_matches("_Remote")
    }
}

impl Caller {
    /// Starts one that rebuilds cinder's exceptions, as cinder-api does.
    pub async fn start(release: Release, transport_url: &str) -> Self {
        Self::start_with(release, transport_url, &[]).await
    }

    /// The same with more options of `tests/peers/caller.py`.
    pub async fn start_with(release: Release, transport_url: &str, options: &[&str]) -> Self {
        let python = release
            .python()
            .expect("only available releases are started");
        let process = Process::start(
            Command::new(python)
                .arg(peer_script("caller.py"))
                .args([
                    "--url",
                    transport_url,
                    "--allowed-remote-exmods",
                    "cinder.exception",
                ])
                .args(options),
        );
        process
            .stdout
            .find("the caller is ready", 0, |line| {
                line.contains("\"ready\"").then_some(())
            })
            .await;
        Self {
            process: Mutex::new(process),
            next_id: AtomicU64::new(0),
        }
    }

    /// Kills it at once, with whatever it waits for.
    pub async fn kill(self) {
        self.process.into_inner().kill().await;
    }

    /// Calls and waits for the outcome.
    pub async fn call(&self, call: &Call) -> Outcome {
        outcome(self.execute("call", call.0.clone()).await)
    }

    /// Casts: done when the message has been sent.
    pub async fn cast(&self, call: &Call) {
        outcome(self.execute("cast", call.0.clone()).await).expect("the cast is sent");
    }

    /// Casts to all servers of the topic.
    pub async fn fanout(&self, call: &Call) {
        outcome(self.execute("fanout", call.0.clone()).await).expect("the cast is sent");
    }

    /// Calls `count` times at once; `numbered` names the argument that gets the numbers from 0.
    pub async fn burst(&self, call: &Call, count: usize, numbered: Option<&str>) -> Vec<Outcome> {
        let mut command = call.0.clone();
        command.insert("count".into(), json!(count));
        command.insert("numbered".into(), json!(numbered));
        match self.execute("burst", command).await.remove("results") {
            Some(Value::Array(results)) => results
                .into_iter()
                .map(|result| outcome(serde_json::from_value(result).unwrap()))
                .collect(),
            other => panic!("a burst has results, not {other:?}"),
        }
    }

    async fn execute(&self, op: &str, mut command: Map<String, Value>) -> Map<String, Value> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        command.insert("id".into(), json!(id));
        command.insert("op".into(), json!(op));
        let what = format!("the outcome of {op} {}", command["method"]);
        // Locked for the write only: others may call while this one waits.
        let (stdout, from) = {
            let mut process = self.process.lock().await;
            let from = process.stdout.len();
            process
                .write_line(&Value::Object(command).to_string())
                .await;
            (process.stdout.clone(), from)
        };
        stdout
            .find(&what, from, |line| {
                let answer: Map<String, Value> = serde_json::from_str(line).unwrap();
                (answer["id"] == id).then_some(answer)
            })
            .await
    }
}

fn outcome(mut answer: Map<String, Value>) -> Outcome {
    match answer.remove("exception") {
        Some(exception) => Err(serde_json::from_value(exception).unwrap()),
        None => Ok(answer
            .remove("result")
            .expect("an answer has a result or an exception")),
    }
}

/// A call to be made; what is not set is not in the target either.
#[derive(Clone, Debug)]
pub struct Call(Map<String, Value>);

impl Call {
    /// To the server of `service`, version 3.0, with a time limit of 10 s.
    pub fn to(service: &Service, method: &str) -> Self {
        Self(Map::new())
            .set("method", method)
            .set("topic", service.topic())
            .set("server", service.host.clone())
            .set("version", "3.0")
            .set("timeout", 10)
    }

    /// The progress call of cinder-api.
    pub fn progress(service: &Service, volume: &Value) -> Self {
        Self::to(service, "get_migrate_volume_progress")
            .version("3.11")
            .arg("volume", volume.clone())
    }

    /// Adds an argument of the method.
    pub fn arg(mut self, name: &str, value: impl Into<Value>) -> Self {
        let args = self.0.entry("args").or_insert_with(|| json!({}));
        args[name] = value.into();
        self
    }

    /// Another RPC version.
    pub fn version(self, version: &str) -> Self {
        self.set("version", version)
    }

    /// Without a version, which means 1.0.
    pub fn unversioned(self) -> Self {
        self.set("version", Value::Null)
    }

    /// To another topic.
    pub fn topic(self, topic: &str) -> Self {
        self.set("topic", topic)
    }

    /// To whichever server of the topic takes it.
    pub fn any_server(self) -> Self {
        self.set("server", Value::Null)
    }

    /// With a namespace in the target.
    pub fn namespace(self, namespace: &str) -> Self {
        self.set("namespace", namespace)
    }

    /// Another time limit, in seconds.
    pub fn timeout(self, seconds: f64) -> Self {
        self.set("timeout", seconds)
    }

    /// `call_monitor_timeout` in seconds; Ocata has none and ignores it.
    pub fn monitor(self, seconds: u32) -> Self {
        self.set("monitor", seconds)
    }

    /// The request context.
    pub fn context(self, context: Value) -> Self {
        self.set("context", context)
    }

    fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }
}
